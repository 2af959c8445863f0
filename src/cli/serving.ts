/**
 * The composition root of serving: checkpoint folder -> backend -> model -> engine -> what the API
 * serves. The only place that knows all of them.
 */
import { findPromptTokens, type ServedModel } from "@/chat/served_model.ts";
import { readGrammar } from "@/chat/template.ts";
import { systemClock } from "@/clock.ts";
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import type { Archive } from "@/engine/archive.ts";
import { Engine } from "@/engine/engine.ts";
import type { EngineBounds } from "@/engine/bounds.ts";
import type { Backend, KvFormat } from "@/kernels/backend.ts";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import type { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { ModelConfig } from "@/model/config.ts";
import { type LoadedModel, loadModel } from "@/model/load.ts";
import type { LoadProgress } from "@/model/parameter_source.ts";
import type { WholeRequest } from "@/media/tiling.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import { FAMILY_ADDED_TOKENS, familyAddedTokens } from "@/tokenizer/added_tokens.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { type Precision, precisionLabel } from "@/weights/precision.ts";
import { diskFolder, type FileFolder } from "@/weights/source.ts";
import { openArchive } from "./archive.ts";
import type { ClusterFlags } from "./cluster_flags.ts";
import { openClusterExperts } from "./cluster_front.ts";
import { openDraft } from "./draft.ts";
import type { EngineFlags } from "./engine_flags.ts";
import {
  CONTEXT_TOKENS_DEFAULT,
  kvBytesDefault,
  kvFormatDefault,
  type MemoryPlan,
  planMemory,
} from "./memory_plan.ts";

/** What is not said of the precision is as in `precisionOf`. */
export interface ServingOptions extends Partial<Precision>, EngineFlags {
  readonly id: string;
  readonly folder: string;
  readonly backend: BackendOptions;
  readonly synthetic?: boolean;
  /** Compare the hashes of a packed folder's files before loading. */
  readonly verify?: boolean;
  readonly contextTokens?: number | undefined;
  readonly kvFormat?: KvFormat | undefined;
  readonly kvBytesMax?: number | undefined;
  readonly tilesMax?: number | undefined;
  readonly msac?: boolean | undefined;
  readonly uprightPictures: boolean;
  /** Pictures at their own size with interpolated positions instead of tiles. */
  readonly anyRes?: boolean;
  readonly bounds?: Partial<EngineBounds>;
  /** Shards that compute the experts. */
  readonly cluster?: ClusterFlags | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly onProgress?: LoadProgress;
  /** Told what will be allocated before it is. */
  readonly onPlan?: (plan: MemoryPlan) => void;
}

/** A model that answers, and the means to stop it. */
export interface Serving {
  readonly served: ServedModel;
  readonly engine: Engine;
  readonly backend: Backend;
  /** Why new requests cannot be served just now. */
  problem(): OperatingError | undefined;
  /** Of a model whose experts are computed by shards. */
  readonly cluster: ClusterControl | undefined;
  close(): Promise<void>;
}

/** Opens backend, model, tokenizer and engine; throws OperatingError with everything released. */
export async function openServing(options: ServingOptions): Promise<Serving> {
  const plan = await planMemory(options);
  options.onPlan?.(plan);
  const backend = await openBackend({ memoryBytes: plan.totalBytes, ...options.backend });
  try {
    return await serveOn(backend, options);
  } catch (error) {
    await backend.close();
    throw error;
  }
}

async function serveOn(backend: Backend, options: ServingOptions): Promise<Serving> {
  const { log, metrics, generationMs } = options;
  const folder = diskFolder(options.folder);
  const bounds = { contextTokens: options.contextTokens ?? CONTEXT_TOKENS_DEFAULT };
  const cluster = options.cluster && await openClusterExperts(backend, options, options.cluster);
  const experts = cluster && { experts: cluster.experts };
  const loaded = await loadModel({ ...options, folder, backend, bounds, ...experts });
  const { model, config, precision } = loaded;
  const tokenizer = await openTokenizer(options, model.vocabularySize);
  const files = Checkpoint.withTensors(folder, []);
  const promptTokens = findPromptTokens(tokenizer);
  const usableVocabulary = Math.min(tokenizer.size, model.vocabularySize);
  const wholePictures = options.anyRes ? wholeRequest(loaded) : undefined;
  const kvFormat = options.kvFormat ?? kvFormatDefault(precision);
  const load = (folder: FileFolder) => loadModel({ ...options, folder, backend, bounds });
  const draft = await openDraft({ folder: options.draftFolder, load, tokenizer, kvFormat });
  const quantization = precisionLabel(precision);
  const numericClass = [backend.description.numericClass, quantization, `kv-${kvFormat}`].join("/");
  const archive = await openModelArchive(options, numericClass);
  const engine = new Engine({
    model,
    kv: { format: kvFormat, bytesMax: options.kvBytesMax ?? kvBytesDefault(model, kvFormat) },
    usableVocabulary,
    ...(wholePictures && { pictureTokensMax: wholePictures.squaresMax }),
    forbiddenIds: [promptTokens.imageStart, promptTokens.imageEnd, promptTokens.imageContext],
    clock: systemClock,
    log: log.with({ model: options.id }),
    metrics,
    bounds: { ...options.bounds, ...(generationMs !== undefined && { generationMs }) },
    ...(options.speculation && { speculation: options.speculation }),
    ...(draft && { draft }),
    ...(archive && { archive }),
  });
  const served: ServedModel = {
    id: options.id,
    generator: cluster?.guard(engine) ?? engine,
    tokenizer,
    grammar: readGrammar(await files.text("chat_template.jinja")),
    promptTokens,
    endTokenIds: model.endTokenIds,
    tileSize: model.tileSize,
    tokensPerTile: model.tokensPerTile,
    wholePictures,
    tilesMax: options.tilesMax ?? config.preprocess.maxTiles,
    msac: options.msac ?? config.preprocess.msac,
    thumbnail: config.preprocess.thumbnail,
    uprightPictures: options.uprightPictures,
    contextTokens: engine.contextTokens,
    usableVocabulary,
    thinking: true,
    numericClass,
    createdEpochSeconds: Math.floor(systemClock.epochMs() / 1000),
    facts: {
      architecture: architectureOf(config),
      parameterCount: loaded.parameterCount,
      quantization,
      backend: `${backend.name} ${backend.description.variant}`,
    },
  };
  const close = async () => {
    await engine.close();
    await cluster?.close();
    await backend.close();
  };
  const problem = () => cluster?.front.problem();
  return { served, engine, backend, problem, cluster: cluster?.front, close };
}

/** The model's part of the disk cache, if there is one. */
async function openModelArchive(
  options: ServingOptions,
  numericClass: string,
): Promise<Archive | undefined> {
  const { cacheFolder, cacheBytesMax, folder, synthetic = false, anyRes = false } = options;
  const pageTokens = options.bounds?.pageTokens ?? limits.kvPageTokens;
  return await openArchive({
    cacheFolder,
    cacheBytesMax,
    modelFolder: folder,
    synthetic,
    facts: { numericClass, anyRes, pageTokens },
    log: options.log,
  });
}

/** Synthetic models may come without a tokenizer and get one of bytes. */
async function openTokenizer(
  { synthetic, folder }: ServingOptions,
  vocabularySize: number,
): Promise<Tokenizer> {
  if (!synthetic || await hasTokenizer(folder)) return await Tokenizer.load(folder);
  const addedTokens = familyAddedTokens(vocabularySize - FAMILY_ADDED_TOKENS.length);
  return Tokenizer.byteLevel(vocabularySize, addedTokens);
}

/** AnyRes: up to 16 384 patches per picture (report, section 2.1), whole at its own aspect. */
function wholeRequest({ model, config }: LoadedModel): WholeRequest {
  const squaresMax = Math.floor(limits.wholePicturePatchesMax / config.mergeFactor ** 2);
  return {
    multiple: config.vision.patchSize * config.mergeFactor,
    squaresMax: Math.min(squaresMax, model.contextTokensMax),
  };
}

async function hasTokenizer(folder: string): Promise<boolean> {
  const names = await diskFolder(folder).names();
  return names.includes("tokenizer.json") || names.includes("vocab.json");
}

function architectureOf(config: ModelConfig): string {
  return config.decoder.moe ? "SAIL-VL2 (sparse decoder)" : "SAIL-VL2 (dense decoder)";
}
