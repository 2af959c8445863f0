/**
 * How much memory serving a model takes, known before its backend opens: the address width of the
 * kernels follows from it. Does not open anything but the model's folder.
 */
import type { KvFormat } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { PartBytes } from "@/model/host_parts.ts";
import { type MemoryNeed, memoryNeed } from "@/model/memory_need.ts";
import type { Precision } from "@/weights/precision.ts";
import type { FileFolder } from "@/weights/source.ts";
import { kvPageBytes } from "./runner.ts";

/** Context when none is asked for: the model's own limit, up to this. */
export const CONTEXT_TOKENS_DEFAULT = 32_768;
/** KV cache when none is asked for: this many full contexts, at least one … */
const FULL_CONTEXTS_DEFAULT = 16;
/** … and no more than this beyond the first. */
const KV_BYTES_DEFAULT_MAX = 512 * 1024 * 1024;
/** Tiles of 1024 patches that hold as many as the largest whole picture. */
const WHOLE_PICTURE_TILES = Math.ceil(limits.wholePicturePatchesMax / 1024);
/** Programs, candidates, quantised activations and the kernels' own heap. */
const WORK_BYTES = 128 * 1024 * 1024;

export interface MemoryPlan {
  readonly weightBytes: number;
  readonly kvBytes: number;
  /** Scratch memory, caches of pictures and what is staged while loading. */
  readonly workBytes: number;
  readonly totalBytes: number;
  /** Of the model's weights, what may be placed elsewhere than the rest. */
  readonly parts: PartBytes;
}

/** What of the serving options decides the memory. */
export interface MemoryPlanOptions extends Partial<Precision> {
  readonly folder: FileFolder;
  readonly synthetic?: boolean;
  readonly contextTokens?: number | undefined;
  readonly kvFormat?: KvFormat | undefined;
  readonly kvBytesMax?: number | undefined;
  readonly anyRes?: boolean;
  /** Shards compute the experts of the served model. */
  readonly cluster?: unknown;
  /** A model that drafts on the same backend. */
  readonly draftFolder?: FileFolder | undefined;
}

/** Throws OperatingError("checkpoint_invalid") for a folder that cannot be loaded. */
export async function planMemory(options: MemoryPlanOptions): Promise<MemoryPlan> {
  const { kvFormat, kvBytesMax, draftFolder, anyRes } = options;
  // A whole picture in one pass takes what its patches in tiles would.
  const bounds = anyRes ? { stepTiles: WHOLE_PICTURE_TILES } : {};
  const need = await memoryNeed({
    ...options,
    bounds,
    withoutExperts: options.cluster !== undefined,
  });
  const format = kvFormat ?? kvFormatDefault(need.precision);
  const model = kvModel(need, options);
  let weightBytes = need.weightBytes;
  let kvBytes = kvBytesMax ?? kvBytesDefault(model, format);
  let workBytes = need.scratchBytes + 4 * model.contextTokensMax * model.kvShape.headWidth +
    limits.visionCacheBytesMax + limits.packStagingBytesMax + WORK_BYTES;
  if (draftFolder !== undefined) {
    const draft = await memoryNeed({ ...options, folder: draftFolder });
    weightBytes += draft.weightBytes;
    kvBytes += kvBytesDefault(kvModel(draft, options), format);
    workBytes += draft.scratchBytes;
  }
  const totalBytes = weightBytes + kvBytes + workBytes;
  return { weightBytes, kvBytes, workBytes, totalBytes, parts: need.parts };
}

function kvModel({ config }: MemoryNeed, { contextTokens }: MemoryPlanOptions): KvModel {
  const contextTokensMax = contextTokens ?? CONTEXT_TOKENS_DEFAULT;
  return {
    kvShape: config.decoder,
    contextTokensMax: Math.min(config.decoder.contextTokensMax, contextTokensMax),
  };
}

/** Quantised weights have rounded more than an f16 cache does. */
export function kvFormatDefault(precision: Pick<Precision, "quantisation">): KvFormat {
  return precision.quantisation === "none" ? "f32" : "f16";
}

interface KvModel {
  readonly kvShape: { layers: number; kvHeads: number; headWidth: number };
  readonly contextTokensMax: number;
}

/** Bytes of the KV cache when none are asked for. */
export function kvBytesDefault({ kvShape, contextTokensMax }: KvModel, format: KvFormat): number {
  const pageTokens = limits.kvPageTokens;
  const pageBytes = kvPageBytes(kvShape, { format, pageTokens });
  // One page more than the context: its last page may be partly used.
  const contextBytes = (Math.ceil(contextTokensMax / pageTokens) + 1) * pageBytes;
  return Math.max(
    contextBytes,
    Math.min(FULL_CONTEXTS_DEFAULT * contextBytes, KV_BYTES_DEFAULT_MAX),
  );
}

/** e.g. "9.6 GiB (weights 4.9, KV cache 4.5, work 0.2)". */
export function planText(
  { weightBytes, kvBytes, workBytes, totalBytes }: Omit<MemoryPlan, "parts">,
): string {
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  return `${gib(totalBytes)} GiB (weights ${gib(weightBytes)}, KV cache ${gib(kvBytes)}, ` +
    `work ${gib(workBytes)})`;
}
