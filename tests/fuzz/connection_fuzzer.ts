/**
 * Feeds damaged frames to live connections, before and after their handshake. Whatever arrives, the
 * endpoint may only go on, or end in a stated way: no exception reaches the socket's callback, what
 * it holds and writes stays bounded.
 */
import assert from "node:assert/strict";
import type { ByteStream, ByteStreamSink } from "@/cluster/byte_stream.ts";
import { ClusterSecret } from "@/cluster/cluster_secret.ts";
import {
  type ConnectionEnd,
  type ConnectionOptions,
  openConnection,
} from "@/cluster/connection.ts";
import { writeChecksum } from "@/cluster/frame.ts";
import { Handshake, type HandshakeOptions, type NodeIdentity } from "@/cluster/handshake.ts";
import { HandshakeError } from "@/cluster/protocol_error.ts";
import { seededRandom } from "@/random.ts";
import { handshakeCorpus, openCorpus } from "./frame_corpus.ts";
import { damagedFrame, type Random, readBody } from "./frame_fuzzer.ts";

const WINDOW_BYTES = 1 << 17;
/** Frames that one connection may get before a fresh one takes over. */
const FRAMES_PER_CONNECTION = 500;

/** A stream whose other end is the fuzzer. */
class FuzzedStream implements ByteStream {
  readonly peer = "fuzzer";
  readonly binding = new Uint8Array();
  readonly backlogBytes = 0;
  writtenBytes = 0;
  closed = false;
  #sink: ByteStreamSink | undefined;

  start(sink: ByteStreamSink): void {
    this.#sink = sink;
  }

  write(bytes: Uint8Array): void {
    this.writtenBytes += bytes.length;
  }

  close(): void {
    this.closed = true;
  }

  feed(bytes: Uint8Array): void {
    this.#sink!.bytes(bytes);
  }
}

function identityOf(role: NodeIdentity["role"]): NodeIdentity {
  return { nodeId: role, cluster: "fuzz", role, numericClass: "", weightHash: "" };
}

const sizes = { frameBytesMax: 1 << 16, windowBytes: WINDOW_BYTES };

function dialerOptions(secret?: ClusterSecret): HandshakeOptions {
  const nonce = new Uint8Array(32).fill(1);
  const binding = new Uint8Array();
  return { ...sizes, side: "dialer", identity: identityOf("front"), nonce, binding, secret };
}

function listenerOptions(secret?: ClusterSecret): ConnectionOptions {
  return {
    ...sizes,
    side: "listener",
    identity: identityOf("shard"),
    nonce: new Uint8Array(32).fill(2),
    secret,
    clock: { nowMs: () => 0, epochMs: () => 0 },
    every: () => () => {},
  };
}

/** An open connection, and how it ended once it has. */
async function openFuzzed() {
  const stream = new FuzzedStream();
  const opening = openConnection(stream, listenerOptions());
  for (const hello of new Handshake(dialerOptions()).start().send) {
    writeChecksum(hello);
    stream.feed(hello.bytes);
  }
  const ends: ConnectionEnd[] = [];
  const connection = await opening;
  let received = 0;
  connection.attach({
    frame: (frame) => {
      received++;
      readBody(frame);
    },
    closed: (end) => ends.push(end),
  });
  return { stream, connection, ends, received: () => received };
}

export interface ConnectionFuzzCounts {
  connections: number;
  received: number;
  ended: Record<string, number>;
}

/** Damaged frames on open connections. Throws on anything unexpected. */
export async function fuzzConnections(
  options: { seed: number; count: number },
): Promise<ConnectionFuzzCounts> {
  const random = seededRandom(options.seed);
  const corpus = [...openCorpus(), ...handshakeCorpus(dialerOptions())];
  const counts: ConnectionFuzzCounts = { connections: 0, received: 0, ended: {} };
  for (let fed = 0; fed < options.count;) {
    const { stream, connection, ends, received } = await openFuzzed();
    counts.connections++;
    for (let i = 0; i < FRAMES_PER_CONNECTION && ends.length === 0; i++, fed++) {
      const before = stream.writtenBytes;
      stream.feed(damagedFrame(random, corpus));
      assert.ok(stream.writtenBytes - before <= 256, "one frame causes one small answer at most");
    }
    for (const { kind, error } of ends) {
      assert.ok(kind === "protocol" || kind === "refused", `${kind}: ${error?.stack}`);
      assert.ok(stream.closed && connection.closed);
      counts.ended[kind] = (counts.ended[kind] ?? 0) + 1;
    }
    counts.received += received();
    connection.close();
  }
  return counts;
}

/** Damaged handshakes against a listener with a secret: nobody gets in. */
export async function fuzzHandshakes(options: { seed: number; count: number }): Promise<number> {
  const random: Random = seededRandom(options.seed);
  const secret = ClusterSecret.fromText("the fuzzer does not know this secret of the cluster");
  const guessed = ClusterSecret.fromText("the fuzzer guesses this secret, and it is another one");
  const corpus = [...handshakeCorpus(dialerOptions(guessed)), ...openCorpus()];
  let failures = 0;
  for (let fed = 0; fed < options.count;) {
    const stream = new FuzzedStream();
    const opening = openConnection(stream, listenerOptions(secret));
    const outcome = opening.then(() => "open", (error) => error);
    if (random() < 0.7) stream.feed(corpus[0]!); // a good hello, so that proofs are reached
    for (let i = 0; i < 20 && !stream.closed; i++, fed++) stream.feed(damagedFrame(random, corpus));
    // Still waiting for the rest of something: the listener would time out.
    if (!stream.closed) continue;
    const error = await outcome;
    assert.ok(error instanceof HandshakeError, String(error));
    failures++;
  }
  return failures;
}
