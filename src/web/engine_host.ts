/**
 * The engine in a worker of a page: files, backend, model and the application of the HTTP API around
 * them, which the page then asks like a server. Everything of the browser is handed in.
 */
import { createApp } from "@/api/app.ts";
import { type OpenedModel, openModel } from "@/chat/open_model.ts";
import type { PictureLoader } from "@/chat/images.ts";
import { systemClock } from "@/clock.ts";
import { planMemory } from "@/engine/memory_plan.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import { limits } from "@/limits.ts";
import { workerCodec } from "@/media/codec.ts";
import { decodeDataUrl, isDataUrl } from "@/media/data_url.ts";
import { Logger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { type FilesOptions, type OpenedFiles, openFiles } from "./model_files.ts";
import type { EngineDescription, ModelLocation, OpenProgress, RunOptions } from "./protocol.ts";

/** What the worker has at hand. */
export interface HostParts extends Omit<FilesOptions, "onBytes"> {
  /** Folder of the worker scripts, and of the modules in `wasm/`. */
  readonly assets: URL;
  /** Starts one of the bundled worker scripts. */
  readonly startWorker: (name: "kernel_worker.js" | "codec_worker.js") => Worker;
  readonly onProgress: (progress: OpenProgress) => void;
}

export interface OpenedEngine {
  readonly description: EngineDescription;
  /** Answers a request of the HTTP API. */
  fetch(request: Request): Promise<Response>;
}

/** Encoded pictures kept: a page asks about few at a time. */
const VISION_CACHE_BYTES = 32 * 1024 * 1024;
/** Context when none is asked for: the model's own limit, up to this. */
const CONTEXT_TOKENS = 8192;
/** Weights from which a GPU is worth its readback per token; a processor streams less in less time. */
const GPU_WEIGHT_BYTES = 64 * 1024 * 1024;
/** One visitor asks little at a time, and the memory belongs to a page. */
const PAGE_BOUNDS = { runningSequences: 8, queueRequests: 32 };

/** Throws OperatingError with everything released. */
export async function openEngine(
  { location, run }: { readonly location: ModelLocation; readonly run: RunOptions },
  parts: HostParts,
): Promise<OpenedEngine> {
  const { onProgress } = parts;
  const files = await openFiles(location, {
    ...parts,
    onBytes: (doneBytes, totalBytes) => onProgress({ phase: "download", doneBytes, totalBytes }),
  });
  const backend = await openPageBackend(files, run, parts);
  try {
    const opened = await openModel(backend, {
      id: files.model,
      folder: files.folder,
      ...precision(run),
      contextTokens: run.contextTokens ?? CONTEXT_TOKENS,
      uprightPictures: true,
      bounds: PAGE_BOUNDS,
      visionCacheBytes: VISION_CACHE_BYTES,
      clock: systemClock,
      log: new Logger({ level: "warn", format: "pretty" }),
      metrics: new Metrics(),
      onProgress: (doneBytes, totalBytes) => onProgress({ phase: "load", doneBytes, totalBytes }),
    });
    return engineOf(opened, backend, files, parts);
  } catch (error) {
    await backend.close();
    throw error;
  }
}

/**
 * The backend that was asked for; by itself a GPU for models whose weights are read faster there than
 * by the processor, and the processor where there is no GPU or it refuses.
 */
async function openPageBackend(
  { folder }: OpenedFiles,
  run: RunOptions,
  { assets, startWorker }: HostParts,
): Promise<Backend> {
  const contextTokens = run.contextTokens ?? CONTEXT_TOKENS;
  const plan = await planMemory({ folder, contextTokens, ...precision(run) });
  const open = (name: "wasm" | "webgpu") =>
    openBackend({
      name,
      memoryBytes: plan.totalBytes,
      threads: run.threads ?? pageThreads(),
      kernelsFolder: new URL("wasm/", assets),
      startWorker: () => startWorker("kernel_worker.js"),
      ...(run.variant && { variant: run.variant }),
    });
  if (run.backend !== "auto") return await open(run.backend);
  if (plan.weightBytes < GPU_WEIGHT_BYTES || !await hasRealGpu()) return await open("wasm");
  try {
    return await open("webgpu");
  } catch (error) {
    if (error instanceof OperatingError) return await open("wasm");
    throw error;
  }
}

/** An adapter that is not the processor in disguise. */
async function hasRealGpu(): Promise<boolean> {
  // Only pages that were loaded securely have it.
  const gpu = navigator.gpu as GPU | undefined;
  const adapter = await gpu?.requestAdapter();
  return adapter !== null && adapter !== undefined && !adapter.info.isFallbackAdapter;
}

/** As stored, or as packed, unless something else is asked for. */
function precision({ quantisation }: RunOptions) {
  return quantisation === undefined ? {} : { quantisation };
}

/** One core is left to the page itself. */
function pageThreads(): number {
  return Math.max(1, Math.min(navigator.hardwareConcurrency - 1, limits.kernelThreadsMax));
}

function engineOf(
  { served, engine }: OpenedModel,
  backend: Backend,
  files: OpenedFiles,
  { assets, fetch, startWorker }: HostParts,
): OpenedEngine {
  const app = createApp({
    models: [served],
    clock: systemClock,
    log: new Logger({ level: "warn", format: "pretty" }),
    metrics: new Metrics(),
    mediaLoader: pageLoader(fetch),
    codec: workerCodec({
      workersMax: 1,
      moduleUrl: new URL("wasm/codec/codec_bg.wasm", assets),
      startWorker: () => startWorker("codec_worker.js"),
    }),
    version: "page",
    ready: () => engine.stats().healthy,
    startedAtMs: systemClock.nowMs(),
  });
  const { variant, reason, threads } = backend.description;
  return {
    description: {
      model: served.id,
      backend: backend.name === "webgpu" ? "webgpu" : "wasm",
      ...{ variant, reason, threads },
      numericClass: served.numericClass,
      contextTokens: served.contextTokens,
      isKept: files.isKept,
    },
    fetch: async (request) => await app.fetch(request),
  };
}

/** Pictures as the page may load them: data:, blob: and whatever its own rules let it fetch. */
function pageLoader(fetch: typeof globalThis.fetch): PictureLoader {
  return {
    load: async (url, { signal, field }) => {
      const bytesMax = limits.imageBytesMax;
      try {
        if (isDataUrl(url)) return decodeDataUrl(url, bytesMax);
      } catch (error) {
        if (!(error instanceof OperatingError)) throw error;
        throw new OperatingError(error.code, error.message, { field, cause: error });
      }
      let blob: Blob;
      try {
        const response = await fetch(url, { signal });
        if (!response.ok) throw new Error(`status ${response.status}`);
        blob = await response.blob();
      } catch (cause) {
        signal.throwIfAborted();
        const why = cause instanceof Error ? cause.message : String(cause);
        const message = `Cannot load picture: ${why}`;
        throw new OperatingError("media_unreachable", message, { field, cause });
      }
      if (blob.size <= bytesMax) return new Uint8Array(await blob.arrayBuffer());
      const message = `Cannot load picture: ${blob.size} bytes exceed ${bytesMax}`;
      throw new OperatingError("payload_too_large", message, { field });
    },
  };
}
