/**
 * The composition root of serving on a machine: a folder on disk, a backend, and the parts that only
 * a server has. How a model is opened on them is `chat/open_model.ts`.
 */
import type { Engine } from "@/engine/engine.ts";
import { type OpenedModel, openModel, type OpenModelOptions } from "@/chat/open_model.ts";
import { systemClock } from "@/clock.ts";
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import type { Archive } from "@/engine/archive.ts";
import { type MemoryPlan, planMemory } from "@/engine/memory_plan.ts";
import type { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { placementText } from "@/engine/gpu_placement.ts";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import type { HostPlacement } from "@/model/host_layers.ts";
import { limits } from "@/limits.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { hashOf } from "@/weights/file_hash.ts";
import { openArchive } from "./archive.ts";
import type { ClusterFlags } from "./cluster_flags.ts";
import { openClusterExperts } from "./cluster_front.ts";
import { openDraft } from "./draft.ts";
import { type GpuFlags, gpuPlacement, openHost } from "./gpu_flags.ts";
import { openOnGpu } from "./gpu_serving.ts";
import { tunedBackend } from "./gpu_tuning.ts";
import type { EngineFlags } from "./engine_flags.ts";

/** What is not said of the precision is as in `precisionOf`. */
export interface ServingOptions
  extends Omit<OpenModelOptions, "folder" | "verify" | "experts" | "host" | "clock">, EngineFlags {
  readonly folder: string;
  readonly backend: BackendOptions;
  /** What of the model a GPU gets. */
  readonly gpu?: GpuFlags;
  /** Compare the hashes of a packed folder's files before loading. */
  readonly verify?: boolean;
  /** Shards that compute the experts. */
  readonly cluster?: ClusterFlags | undefined;
  /** Told what will be allocated before it is. */
  readonly onPlan?: (plan: MemoryPlan) => void;
}

/** A model that answers, and the means to stop it. */
export interface Serving extends Pick<OpenedModel, "served"> {
  readonly backend: Backend;
  /** The engine that answers at the time. */
  readonly engine: Pick<Engine, "submit" | "stats" | "drain" | "close">;
  /** Why new requests cannot be served just now. */
  problem(): OperatingError | undefined;
  /** Of a model whose experts are computed by shards. */
  readonly cluster: ClusterControl | undefined;
  close(): Promise<void>;
}

/**
 * Opens backend, model, tokenizer and engine; throws OperatingError with everything released. What
 * was to run on a GPU runs on the wasm kernels when there is none, when it is too small, and from
 * the moment when it is lost.
 */
export async function openServing(options: ServingOptions): Promise<Serving> {
  if (options.backend.name !== "webgpu") return await openWhole(options);
  return await openOnGpu(options, openWhole);
}

async function openWhole(options: ServingOptions): Promise<Serving> {
  const plan = await servingMemory(options);
  if (options.backend.name === "webgpu") return await openPlaced(options, plan);
  options.onPlan?.(plan);
  const backend = await openBackend({ memoryBytes: plan.totalBytes, ...options.backend });
  try {
    const serving = await serveOn(backend, options);
    return { ...serving, close: () => serving.close().then(() => backend.close()) };
  } catch (error) {
    await backend.close();
    throw error;
  }
}

/** On a GPU, and on the processor what the GPU does not take. */
async function openPlaced(options: ServingOptions, plan: MemoryPlan): Promise<Serving> {
  const { gpu = {}, log, id } = options;
  const placement = await gpuPlacement(plan, gpu);
  await using stack = new AsyncDisposableStack();
  const tuned = await tunedBackend(options.backend, { log });
  const backend = await openBackend({ ...tuned, gpuMemoryBytes: gpu.memoryBytes });
  stack.defer(() => backend.close());
  const host = await openHost(placement, options.backend);
  if (host) {
    stack.defer(() => host.backend.close());
    log.info("model is placed", { model: id, placement: placementText(placement) });
  }
  const serving = await serveOn(backend, options, host);
  const opened = stack.move();
  return { ...serving, close: () => serving.close().then(() => opened.disposeAsync()) };
}

/** The memory that serving takes; throws OperatingError("checkpoint_invalid") for a bad folder. */
export async function servingMemory(
  options: Omit<ServingOptions, "id" | "backend" | "log" | "metrics">,
): Promise<MemoryPlan> {
  const { folder, draftFolder, cluster } = options;
  return await planMemory({
    ...options,
    cluster: cluster?.localExperts === "all" ? undefined : cluster,
    folder: diskFolder(folder),
    draftFolder: draftFolder === undefined ? undefined : diskFolder(draftFolder),
  });
}

/** The backends stay with the caller. */
async function serveOn(
  backend: Backend,
  options: ServingOptions,
  host?: HostPlacement,
): Promise<Serving> {
  const { generationMs, draftFolder } = options;
  const cluster = options.cluster && await openClusterExperts(backend, options, options.cluster);
  const { served, engine } = await openModel(backend, {
    ...options,
    folder: diskFolder(options.folder),
    verify: options.verify ? hashOf : undefined,
    bounds: { ...options.bounds, ...(generationMs !== undefined && { generationMs }) },
    clock: systemClock,
    host,
  }, {
    experts: cluster?.experts,
    mixedClasses: options.cluster?.mixedClasses,
    ...(cluster && { guard: (engine) => cluster.guard(engine) }),
    openDraft: (opened) => openDraft({ folder: draftFolder, ...opened }),
    openArchive: (numericClass) => openModelArchive(options, numericClass),
  });
  const close = async () => {
    await engine.close();
    await cluster?.close();
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
