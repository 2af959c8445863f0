/**
 * From a model folder and a backend to what answers chats: weights, tokenizer, prompt grammar and
 * engine. Knows neither disk nor network, so it also runs in a page; what only a server has (cluster,
 * draft model, disk cache) is handed in.
 */
import type { Clock } from "@/clock.ts";
import type { Archive } from "@/engine/archive.ts";
import type { EngineBounds } from "@/engine/bounds.ts";
import { Engine, type EngineOptions } from "@/engine/engine.ts";
import { CONTEXT_TOKENS_DEFAULT, kvBytesDefault, kvFormatDefault } from "@/engine/memory_plan.ts";
import type { Generator } from "@/engine/request.ts";
import type { SpeculationMode } from "@/engine/speculation.ts";
import type { Backend, KvFormat } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { WholeRequest } from "@/media/tiling.ts";
import type { ModelConfig } from "@/model/config.ts";
import type { ExpertExecutor } from "@/model/experts.ts";
import { partsText } from "@/model/host_parts.ts";
import { type LoadedModel, loadModel, type LoadOptions } from "@/model/load.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import { FAMILY_ADDED_TOKENS, familyAddedTokens } from "@/tokenizer/added_tokens.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { precisionLabel } from "@/weights/precision.ts";
import { type FileFolder, readText } from "@/weights/source.ts";
import { findPromptTokens, type ServedModel } from "./served_model.ts";
import { readGrammar } from "./template.ts";

/** What is not said is as in `loadModel`, or as the model's own files say. */
export interface OpenModelOptions extends Omit<LoadOptions, "backend" | "bounds"> {
  readonly id: string;
  readonly contextTokens?: number | undefined;
  readonly kvFormat?: KvFormat | undefined;
  readonly kvBytesMax?: number | undefined;
  readonly tilesMax?: number | undefined;
  readonly msac?: boolean | undefined;
  readonly uprightPictures: boolean;
  /** Pictures at their own size with interpolated positions instead of tiles. */
  readonly anyRes?: boolean;
  /** Bytes of encoded tiles kept. */
  readonly visionCacheBytes?: number;
  readonly bounds?: Partial<EngineBounds>;
  readonly speculation?: SpeculationMode;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Parts that only some places have. */
export interface ServerParts {
  /** Experts may be computed in other numeric classes too. */
  readonly mixedClasses?: boolean | undefined;
  readonly experts?: ExpertExecutor | undefined;
  /** May refuse requests before the engine gets them. */
  guard?(engine: Engine): Generator;
  openDraft?(opened: {
    load(folder: FileFolder): Promise<LoadedModel>;
    tokenizer: Tokenizer;
    kvFormat: KvFormat;
  }): Promise<EngineOptions["draft"]>;
  openArchive?(numericClass: string): Promise<Archive | undefined>;
}

export interface OpenedModel {
  readonly served: ServedModel;
  readonly engine: Engine;
}

/** Throws OperatingError; what was allocated on `backend` until then goes with the backend. */
export async function openModel(
  backend: Backend,
  options: OpenModelOptions,
  parts: ServerParts = {},
): Promise<OpenedModel> {
  const { folder, id } = options;
  const { host, ...whole } = options;
  const load = (folder: FileFolder, own: Pick<LoadOptions, "experts" | "host"> = {}) => {
    const bounds = { contextTokens: options.contextTokens ?? CONTEXT_TOKENS_DEFAULT };
    return loadModel({ ...whole, ...own, folder, backend, bounds });
  };
  const { experts } = parts;
  const loaded = await load(folder, { host, ...(experts && { experts }) });
  const { model, precision } = loaded;
  const tokenizer = await openTokenizer(options, model.vocabularySize);
  const promptTokens = findPromptTokens(tokenizer);
  const usableVocabulary = Math.min(tokenizer.size, model.vocabularySize);
  const wholePictures = options.anyRes ? wholeRequest(loaded) : undefined;
  const kvFormat = options.kvFormat ?? kvFormatDefault(precision);
  const draft = await parts.openDraft?.({ load: (folder) => load(folder), tokenizer, kvFormat });
  const quantization = precisionLabel(precision);
  const ownClass = [numericClassOf(backend, host), quantization, `kv-${kvFormat}`].join("/");
  const numericClass = parts.mixedClasses ? `${ownClass}/mixed` : ownClass;
  const archive = await parts.openArchive?.(numericClass);
  const engine = new Engine({
    model,
    kv: { format: kvFormat, bytesMax: options.kvBytesMax ?? kvBytesDefault(model, kvFormat) },
    usableVocabulary,
    ...(wholePictures && { pictureTokensMax: wholePictures.squaresMax }),
    forbiddenIds: [promptTokens.imageStart, promptTokens.imageEnd, promptTokens.imageContext],
    clock: options.clock,
    log: options.log.with({ model: id }),
    metrics: options.metrics,
    ...(options.bounds && { bounds: options.bounds }),
    ...(options.visionCacheBytes && { visionCacheBytes: options.visionCacheBytes }),
    ...(options.speculation && { speculation: options.speculation }),
    ...(draft && { draft }),
    ...(archive && { archive }),
  });
  const served: ServedModel = {
    id,
    generator: parts.guard?.(engine) ?? engine,
    tokenizer,
    grammar: readGrammar(await readText(folder, "chat_template.jinja")),
    promptTokens,
    wholePictures,
    ...pictureRules(loaded, options),
    contextTokens: engine.contextTokens,
    usableVocabulary,
    thinking: true,
    numericClass,
    createdEpochSeconds: Math.floor(options.clock.epochMs() / 1000),
    facts: {
      architecture: architectureOf(loaded.config),
      parameterCount: loaded.parameterCount,
      quantization,
      backend: `${backend.name} ${backend.description.variant}` +
        (host ? ` + ${host.backend.name} (${partsText(host.parts)})` : ""),
    },
  };
  return { served, engine };
}

/** Where two backends compute, it matters which of them computes what. */
function numericClassOf(backend: Backend, host: LoadOptions["host"]): string {
  const { numericClass } = backend.description;
  if (!host) return numericClass;
  return `${numericClass}+${host.backend.description.numericClass} (${partsText(host.parts)})`;
}

function pictureRules({ model, config }: LoadedModel, options: OpenModelOptions) {
  const { endTokenIds, tileSize, tokensPerTile } = model;
  const { maxTiles, msac, thumbnail } = config.preprocess;
  return {
    ...{ endTokenIds, tileSize, tokensPerTile, thumbnail },
    tilesMax: options.tilesMax ?? maxTiles,
    msac: options.msac ?? msac,
    uprightPictures: options.uprightPictures,
  };
}

/** Synthetic models may come without a tokenizer and get one of bytes. */
async function openTokenizer(
  { synthetic, folder }: OpenModelOptions,
  vocabularySize: number,
): Promise<Tokenizer> {
  if (!synthetic || await hasTokenizer(folder)) {
    return await Tokenizer.load((name) => readText(folder, name));
  }
  const addedTokens = familyAddedTokens(vocabularySize - FAMILY_ADDED_TOKENS.length);
  return Tokenizer.byteLevel(vocabularySize, addedTokens);
}

async function hasTokenizer(folder: FileFolder): Promise<boolean> {
  const names = await folder.names();
  return names.includes("tokenizer.json") || names.includes("vocab.json");
}

/** AnyRes: up to 16 384 patches per picture (report, section 2.1), whole at its own aspect. */
function wholeRequest({ model, config }: LoadedModel): WholeRequest {
  const squaresMax = Math.floor(limits.wholePicturePatchesMax / config.mergeFactor ** 2);
  return {
    multiple: config.vision.patchSize * config.mergeFactor,
    squaresMax: Math.min(squaresMax, model.contextTokensMax),
  };
}

function architectureOf(config: ModelConfig): string {
  return config.decoder.moe ? "SAIL-VL2 (sparse decoder)" : "SAIL-VL2 (dense decoder)";
}
