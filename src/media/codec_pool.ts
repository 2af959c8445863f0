/**
 * Owns the codec workers: starts them when needed, gives each one call at a time, and ends a worker
 * whose call runs out of time or is cancelled. Does not touch pixels.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { compileCodecModule } from "./codec_module.ts";
import type {
  CodecCall,
  CodecExecutor,
  CodecResults,
  WorkerReply,
  WorkerRequest,
} from "./codec_protocol.ts";

/** Bounds of a pool; the defaults come from `limits`. */
export interface CodecPoolOptions extends CodecFiles {
  readonly workersMax?: number;
  readonly queueJobsMax?: number;
  /** Wall time of one call, not counting its wait in the queue. */
  readonly timeoutMs?: number;
}

/** Where a bundled program, which has no sources beside it, keeps what the pool starts. */
export interface CodecFiles {
  readonly moduleUrl?: URL;
  /** Starts `codec_worker.ts`. */
  readonly startWorker?: () => Worker;
}

interface Job {
  readonly bytes: Uint8Array;
  readonly call: CodecCall;
  readonly resolve: (value: CodecResults[CodecCall["kind"]]) => void;
  readonly reject: (error: OperatingError) => void;
}

/** A worker and the call it is busy with. */
interface Slot {
  readonly worker: Worker;
  isReady: boolean;
  job: Job | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** Runs codec calls in at most `workersMax` workers. */
export class CodecPool implements CodecExecutor {
  readonly #workersMax: number;
  readonly #queueJobsMax: number;
  readonly #timeoutMs: number;
  readonly #moduleUrl: URL | undefined;
  readonly #startWorker: () => Worker;
  readonly #queue: Job[] = [];
  readonly #slots = new Set<Slot>();
  #module: Promise<WebAssembly.Module> | undefined;
  #closed = false;

  constructor(options: CodecPoolOptions = {}) {
    this.#workersMax = options.workersMax ?? limits.codecWorkersMax;
    this.#queueJobsMax = options.queueJobsMax ?? limits.codecQueueJobsMax;
    this.#moduleUrl = options.moduleUrl;
    this.#startWorker = options.startWorker ?? startWorker;
    this.#timeoutMs = options.timeoutMs ?? limits.decodeTimeoutMs;
  }

  async perform<C extends CodecCall>(
    bytes: Uint8Array,
    call: C,
    signal?: AbortSignal,
  ): Promise<CodecResults[C["kind"]]> {
    this.#module ??= compileCodecModule(this.#moduleUrl);
    const module = await this.#module;
    if (this.#closed) throw new OperatingError("unavailable", "The image codec is closed");
    if (signal?.aborted === true) throw cancelled();
    if (this.#queue.length >= this.#queueJobsMax) {
      throw new OperatingError(
        "overloaded",
        `Cannot decode image: ${this.#queue.length} pictures are waiting already`,
        { retryAfterSeconds: 1 },
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<CodecResults[CodecCall["kind"]]>();
    const job: Job = { bytes, call, resolve, reject };
    const abort = () => this.#abandon(job);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      this.#queue.push(job);
      this.#dispatch(module);
      return await promise as CodecResults[C["kind"]];
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  close(): void {
    this.#closed = true;
    const error = new OperatingError("unavailable", "The image codec was closed");
    for (const job of this.#queue.splice(0)) job.reject(error);
    for (const slot of [...this.#slots]) this.#retire(slot, error);
  }

  /** Gives waiting jobs to idle workers and starts workers while there are more jobs. */
  #dispatch(module: WebAssembly.Module): void {
    while (this.#queue.length > 0) {
      let slot = [...this.#slots].find((slot) => slot.job === undefined);
      if (slot === undefined) {
        if (this.#slots.size >= this.#workersMax) return;
        slot = this.#start(module);
      }
      const job = this.#queue.shift()!;
      slot.job = job;
      this.#restartTimer(slot);
      post(slot.worker, { kind: "call", bytes: job.bytes, call: job.call });
    }
  }

  #start(module: WebAssembly.Module): Slot {
    const worker = this.#startWorker();
    const slot: Slot = { worker, isReady: false, job: undefined, timer: undefined };
    this.#slots.add(slot);
    worker.onmessage = (event: MessageEvent<WorkerReply>) => {
      const reply = event.data;
      if (reply.kind === "ready") {
        slot.isReady = true;
        this.#restartTimer(slot);
      } else this.#settle(slot, reply, module);
    };
    worker.onerror = (event) => {
      event.preventDefault(); // or it would end the process
      const detail = event.message;
      this.#retire(slot, new OperatingError("internal", "The image codec failed", { detail }));
      this.#dispatch(module);
    };
    post(worker, { kind: "start", module });
    return slot;
  }

  #settle(slot: Slot, reply: Exclude<WorkerReply, { kind: "ready" }>, module: WebAssembly.Module) {
    const job = slot.job;
    clearTimeout(slot.timer);
    slot.job = undefined;
    if (reply.kind === "result") job?.resolve(reply.value);
    else job?.reject(new OperatingError(reply.code, reply.message));
    this.#dispatch(module);
  }

  #restartTimer(slot: Slot): void {
    clearTimeout(slot.timer);
    if (slot.job === undefined) return;
    // Loading the worker's own code does not count against the picture.
    const timeoutMs = slot.isReady ? this.#timeoutMs : limits.codecStartTimeoutMs;
    slot.timer = setTimeout(() => {
      const error = slot.isReady
        ? new OperatingError(
          "invalid_media",
          `Cannot decode image: it takes longer than ${timeoutMs} ms`,
        )
        : new OperatingError("unavailable", `The image codec needs over ${timeoutMs} ms to start`);
      this.#replace(slot, error);
    }, timeoutMs);
  }

  #abandon(job: Job): void {
    const waiting = this.#queue.indexOf(job);
    if (waiting >= 0) this.#queue.splice(waiting, 1);
    job.reject(cancelled());
    for (const slot of [...this.#slots]) if (slot.job === job) this.#replace(slot, cancelled());
  }

  /** Ends a worker and lets the waiting jobs have a fresh one. */
  #replace(slot: Slot, error: OperatingError): void {
    this.#retire(slot, error);
    this.#module?.then((module) => this.#dispatch(module));
  }

  #retire(slot: Slot, error: OperatingError): void {
    clearTimeout(slot.timer);
    this.#slots.delete(slot);
    slot.worker.terminate();
    slot.job?.reject(error);
    slot.job = undefined;
  }
}

function startWorker(): Worker {
  const url = new URL("./codec_worker.ts", import.meta.url);
  return new Worker(url, { type: "module", name: "codec" });
}

function post(worker: Worker, request: WorkerRequest): void {
  worker.postMessage(request);
}

function cancelled(): OperatingError {
  return new OperatingError("cancelled", "Decoding was cancelled");
}
