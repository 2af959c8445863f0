/** Every bound of the system, with its unit, and assertions on how they relate. */
import { assert } from "@/assert.ts";

const MIB = 1024 * 1024;

export const limits = {
  /** Largest accepted HTTP body. */
  bodyBytesMax: 128 * MIB,
  /** Bodies of all requests in flight together. */
  bodyBytesInFlightMax: 512 * MIB,
  /** Longest text of one request, in UTF-16 units, refused before it is tokenised. */
  promptCharsMax: 4 * MIB,
  imagesPerRequestMax: 64,
  framesPerRequestMax: 64,
  /** Frames sampled from a clip, as in the model's evaluation. */
  clipFramesDefault: 16,
  /** Largest single encoded picture. */
  imageBytesMax: 32 * MIB,
  /** Largest decoded picture, read from its header before anything is allocated. */
  imagePixelsMax: 40_000_000,
  /** Largest width or height: a strip one pixel wide would grow without bound when resized. */
  imageSideMax: 65_535,
  /** Longest animation that frames are sampled from. */
  animationFramesMax: 10_000,
  /** Largest side of a tile, and tiles cut from one picture. */
  tileSizeMax: 2048,
  tilesPerImageMax: 64,
  /** Wall time of one picture's decoding. */
  decodeTimeoutMs: 10_000,
  /** Linear memory of the codec sandbox. */
  codecMemoryBytesMax: 768 * MIB,
  /** A codec instance that grew beyond this is replaced after the picture. */
  codecMemoryRetainedBytesMax: 64 * MIB,
  codecWorkersMax: 2,
  /** Wall time of starting a codec worker, not counted against its first picture. */
  codecStartTimeoutMs: 30_000,
  /** Decoding jobs that wait for a codec worker before new ones get 429. */
  codecQueueJobsMax: 1024,
  /** Wall time of sampling the frames of one video file. */
  videoTimeoutMs: 60_000,
  fetchTimeoutMs: 10_000,
  fetchRedirectsMax: 3,
  /** Requests waiting for a slot before new ones get 429. */
  queueRequestsMax: 256,
  /** Pixels of all requests that wait or run, before new ones with pictures get 429. */
  pendingPixelBytesMax: 1024 * MIB,
  /** Sequences that run together in one step. */
  runningSequencesMax: 64,
  /** Wall time of one request in the engine, waiting included. */
  generationMsMax: 3_600_000,
  /** Token rows of one step. */
  stepTokensMax: 512,
  /** Time that a step should take: other streams and cancels wait for it. */
  stepMsTarget: 400,
  /** Steps that are planned beyond one whose results are not known yet. */
  stepsAheadMax: 64,
  /** Picture tiles encoded in one step. */
  stepTilesMax: 4,
  /** Prompt positions scored in one step (`promptLogprobs`): each holds a row of logits. */
  stepScoresMax: 64,
  /** Attention work of one step's prompt chunks: rows times the tokens that each attends to. */
  stepAttentionMax: 4 * MIB,
  /** Rows of logits of one step: scores, draws and drafts. */
  stepLogitsMax: 128,
  /** KV cache of a draft model beyond its first context. */
  draftKvBytesMax: 256 * MIB,
  /** Tokens drafted for one sequence in one step. */
  draftTokensMax: 12,
  /** Steps that a running sequence may go without a row before it is served first. */
  starvedStepsMax: 8,
  /** Younger sequences that may start before a waiting one that does not fit yet. */
  overtakesMax: 16,
  /** Failed steps in a row after which the backend counts as lost. */
  failedStepsMax: 3,
  /** Unread events of one request before the engine pauses it. */
  unreadEventsMax: 256,
  /** Time the engine computes before it lets timers and requests run. */
  engineYieldMs: 10,
  /** Label combinations of one metric. */
  metricSeriesMax: 256,
  kvPageTokens: 16,
  /** Widest attention head: a kernel keeps its running outputs on the stack. */
  headWidthMax: 256,
  /** Most experts that one row chooses, sorted on a kernel's stack. */
  expertChoicesMax: 64,
  kernelThreadsMax: 64,
  /** Pages of 64 KiB of one kernel memory: all that 32-bit addresses reach … */
  kernelMemoryPagesMax: 65_536,
  /** … and the most that V8 gives a memory with 64-bit addresses: 16 GiB. */
  kernelMemory64PagesMax: 262_144,
  /** Estimated need up to which 32-bit addresses are used: the estimate may fall short. */
  narrowMemoryBytesMax: 3584 * MIB,
  /** Models up to this size are put on a GPU without asking first how much memory it grants. */
  gpuUntriedBytesMax: 1024 * MIB,
  /** File bytes on their way into a packed matrix. */
  packStagingBytesMax: 32 * MIB,
  /** Patches of one picture kept whole: 1792 x 1792 at patch size 14. */
  wholePicturePatchesMax: 16_384,
  visionCacheBytesMax: 256 * MIB,
  /** Disk cache when its size is not named, and its files. */
  cacheBytesDefault: 4096 * MIB,
  cacheEntriesMax: 65_536,
  /** Values on their way to the disk cache before new ones are dropped. */
  cacheQueueBytesMax: 64 * MIB,
  /** How long a disk that failed is left alone. */
  cacheRetryMs: 30_000,
  /** Files in use tell so again after this time. */
  cacheTouchMs: 60_000,
  /** Age of an unfinished file that nobody can be writing any more. */
  cacheIncomingMs: 600_000,
  /** How long closing waits for queued writes. */
  cacheCloseMs: 5_000,
  /** Files whose hashes are remembered for the disk cache. */
  identitiesMax: 1024,
  /** KV pages read from the disk cache at a time for one request, and how long a request waits. */
  cacheRestoreBytesMax: 32 * MIB,
  cacheRestoreMs: 10_000,
  choicesMax: 16,
  stopStringsMax: 16,
  stopStringCharsMax: 256,
  stopTokenIdsMax: 256,
  topLogprobsMax: 20,
  /** Candidates that a sampling step hands to JavaScript. */
  candidatesMax: 64,
  logitBiasEntriesMax: 1024,
  /** Nesting depth of a JSON body. */
  jsonDepthMax: 64,
  /** Values (strings, numbers, objects, …) of a JSON body, bounded before it is parsed. */
  jsonValuesMax: 1_000_000,
  messagesMax: 2048,
  /** Prompts of one raw completion request. */
  promptsPerRequestMax: 64,
  /** Answer length when the request names none and the context leaves as much. */
  answerTokensDefault: 4096,
  /** Pictures of one request that are fetched and tiled at a time. */
  imagesLoadingMax: 4,
  tiledImageCacheBytesMax: 64 * MIB,
  /** Silence after which a stream sends a comment. */
  streamPingMs: 1000,
  /** How long a stream's headers wait for an early error to get its own status code. */
  streamHeadersMs: 500,
  safetensorsHeaderBytesMax: 100 * MIB,
  /** Files of one model that a page gets from a server. */
  modelFilesMax: 1024,
  /** Attempts to get one of them, and the pause after the first (doubling). */
  downloadTriesMax: 4,
  downloadRetryMs: 500,
  /** Bytes of a model's file that the server reads at a time. */
  filePieceBytes: MIB,
  /** Token ids a tokenizer may use; several times the largest published vocabulary. */
  vocabularySizeMax: 1 << 20,
  /** Pieces of text whose token ids a tokenizer remembers. */
  tokenizerCachePiecesMax: 32_768,
  /** Longest remembered piece, in UTF-16 units. */
  tokenizerCachePieceCharsMax: 32,
  /** Nodes of one cluster, and (layer, expert) pairs that they share out. */
  clusterNodesMax: 256,
  expertSlotsMax: 1 << 16,
  /** Age of a lease's last renewal at which its holder is gone, and how often it is renewed. */
  leaseTtlMs: 3000,
  leaseRenewMs: 1000,
  /** Silence on a shard's connection after which it gets no new calls; heartbeats between. */
  nodeSilenceMs: 800,
  nodeHeartbeatMs: 200,
  /** Half-life of the load that a placement is planned for. */
  expertLoadHalfLifeMs: 60_000,
  /** Time between two words of a front to the others about its load. */
  loadShareMs: 2000,
  /**
   * Half-life of a shard's measured speed; the factor by which it must have changed, and the time
   * that must have passed, before planners are told again.
   */
  speedHalfLifeMs: 10_000,
  speedChangeMin: 1.15,
  speedAnnounceMs: 10_000,
  /** Time between two plans that only improve the balance; experts that one of them copies. */
  planIntervalMs: 10_000,
  planCopiesMax: 64,
  /** Time that members must stay the same before a plan is made for them. */
  planSettleMs: 500,
  /** Time for which the first plan waits for the nodes that are expected. */
  planFirstWaitMs: 10_000,
  /** Time without one more loaded expert after which a plan is given up. */
  planStallMs: 30_000,
  /** Wait for the answer to a published plan before it is read back. */
  planPublishMs: 2000,
  /** Time for which experts that left the plan are still served. */
  planGraceMs: 2000,
  /** One layer's call: its end, the silence that counts as failure, the wait for any owner. */
  layerCallMs: 10_000,
  layerAttemptMs: 400,
  expertOwnerWaitMs: 1000,
  layerRetryMs: 10,
  /** A timer that is later than this shows that the front itself was not running. */
  frontStallMs: 100,
  layerAttemptsMax: 256,
  /** Calls to a node before its 95th percentile counts; kept samples per node and call size. */
  latencySamplesMin: 16,
  latencySamplesMax: 64,
  /** Hedged rows as a share of all rows, and how many may be saved up. */
  hedgedRowsShare: 0.05,
  hedgedRowsSaved: 2048,
  /** Failures in a row that open a node's circuit, and how long it stays open (doubling). */
  circuitFailuresMax: 3,
  circuitOpenMs: 250,
  circuitOpenMsMax: 8000,
  /** One cluster frame with its header; the peers agree on the smaller of their bounds. */
  clusterFrameBytesMax: 16 * MIB,
  /** Unconsumed data frames that a connection accepts, in bytes. */
  clusterWindowBytes: 32 * MIB,
  /** A frame that flows outside the window (ping, cancel, refusal, …), and one before the handshake. */
  clusterControlBytesMax: 4096,
  /** Written bytes beyond the peer's window that it has not read, before it counts as stuck. */
  clusterBacklogBytesMax: 1 * MIB,
  /** Wall time from an accepted socket to the end of the handshake. */
  clusterHandshakeMs: 5000,
  /** Sockets whose handshake is under way, and connections, of one listener. */
  clusterHandshakesMax: 64,
  clusterConnectionsMax: 256,
  /** Time between two pings on a data socket. */
  clusterHeartbeatMs: 200,
  /** Silence on a data socket after which the peer counts as lost. */
  clusterSilenceMs: 900,
  /** Shortest cluster secret: it must not be guessable from a recorded handshake. */
  clusterSecretBytesMin: 32,
  /** Longest name or message in a cluster frame, in UTF-8 bytes. */
  clusterTextBytesMax: 512,
  /** Rows, and (row, expert) pairs, of one expert call. */
  clusterCallRowsMax: 8192,
  clusterCallPairsMax: 65_536,
  /** How long running answers wait for shards after their server's GPU was lost. */
  failoverCoverMs: 20_000,
  /** (row, expert) pairs that wait on a shard before it refuses more. */
  shardQueuePairsMax: 262_144,
  /** Experts read from disk that a front keeps when no shard answers for them. */
  fallbackExpertsMax: 128,
  /** Round trips of one shard whose percentiles a front knows. */
  roundTripsKept: 256,
  /** Share of a machine's free memory that a shard takes for experts when no size is named. */
  expertMemoryShare: 0.75,
  /** How long a shard that was told to stop waits for others to take its experts. */
  shardDrainMs: 60_000,
  /** Time between two looks of a front at members and plans. */
  frontTickMs: 50,
  /** Answers sampled together in training: sequences of a step, logits of it, keys and values. */
  rolloutSequencesMax: 256,
  rolloutLogitBytesMax: 64 * MIB,
  rolloutKvBytesMax: 512 * MIB,
  /** Time that a step of theirs may take: nobody else waits for it. */
  rolloutStepMs: 4000,
  /** (row, expert) pairs from which one layer's call spreads over all owners. */
  spreadRowsMin: 64,
} as const;

assert(limits.topLogprobsMax <= limits.candidatesMax, "top_logprobs must fit the candidates");
assert(limits.imageBytesMax <= limits.bodyBytesMax, "a picture must fit the body");
assert(limits.bodyBytesMax <= limits.bodyBytesInFlightMax, "a body alone must fit");
assert(limits.stepTokensMax >= limits.runningSequencesMax, "one token per running sequence");
assert(
  limits.stepScoresMax + limits.runningSequencesMax <= limits.stepLogitsMax,
  "logit rows of one step",
);
assert(2 * limits.clusterFrameBytesMax <= limits.clusterWindowBytes, "credits must not deadlock");
assert(limits.clusterControlBytesMax <= limits.clusterBacklogBytesMax, "one control frame fits");
assert(limits.leaseTtlMs >= 2 * limits.leaseRenewMs, "a lease survives one lost renewal");
assert(limits.nodeSilenceMs >= 2 * limits.nodeHeartbeatMs, "silence outlasts one lost heartbeat");
assert(limits.layerAttemptMs < limits.layerCallMs, "a call can be retried");
