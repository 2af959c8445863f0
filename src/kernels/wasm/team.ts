/**
 * The thread team: workers that sleep in WebAssembly until the epoch rises, run the program, and
 * sleep again. The main thread only writes, notifies and waits asynchronously; in the place of a
 * team of one it runs short programs itself.
 */
import { assert } from "@/assert.ts";
import { LateFailure } from "@/late_failure.ts";
import { CONTROL_BYTES, controlWord } from "./control.ts";
import { type Executor, kernelError, type Program, type RunOptions } from "./executor.ts";
import { checkTable, instantiateKernels, type Kernels } from "./instance.ts";
import type { LinearMemory } from "./memory.ts";
import type { ThreadMessage, ThreadStart } from "./worker.ts";

/** Loads at a barrier before a thread sleeps: long enough that threads on free cores never do. */
const BARRIER_SPINS = 20_000;
/** The same when threads share cores: who spins there takes the time of those it waits for. */
const SHARED_CORE_SPINS = 200;

interface Thread {
  readonly worker: Worker;
  readonly ready: Promise<{ tableHash: number; fused: boolean }>;
  readonly stopped: Promise<void>;
}

export class ThreadTeam implements Executor {
  readonly threads: number;
  readonly fused: boolean;
  readonly #threads: readonly Thread[];
  readonly #memory: LinearMemory;
  readonly #control: number;
  /** A thread failed. */
  readonly #failure: LateFailure;
  readonly #module: WebAssembly.Module;
  /** Kernels on the calling thread, once they are wanted. */
  #kernels: Kernels | undefined;
  #running = false;

  private constructor(
    parts: {
      threads: readonly Thread[];
      memory: LinearMemory;
      control: number;
      failure: LateFailure;
      fused: boolean;
      module: WebAssembly.Module;
    },
  ) {
    this.threads = parts.threads.length;
    this.fused = parts.fused;
    this.#threads = parts.threads;
    this.#memory = parts.memory;
    this.#control = parts.control;
    this.#failure = parts.failure;
    this.#module = parts.module;
  }

  /** Starts `threads` workers on `memory`; `control` is the address of a zero control block. */
  static async start(
    options: {
      module: WebAssembly.Module;
      memory: LinearMemory;
      control: number;
      threads: number;
      /** The module knows the ops of training. */
      training: boolean;
      /** Starts `worker.ts`. */
      startWorker?: () => Worker;
    },
  ): Promise<ThreadTeam> {
    const { module, memory, control, threads: count } = options;
    const { startWorker: openWorker = startWorker } = options;
    assert(count >= 1, `a team of ${count} threads`);
    const spins = count > navigator.hardwareConcurrency ? SHARED_CORE_SPINS : BARRIER_SPINS;
    memory.words[control / 4 + controlWord.spins] = spins;
    // It is reported by `run`; without a run in progress nobody listens.
    const failure = new LateFailure();
    const fail = (cause: unknown) => {
      release(memory, control);
      failure.fail(kernelError(memory, control, cause));
    };
    const threads = Array.from({ length: count }, (_, thread) => {
      const start = { module, memory: memory.memory, control, thread, threads: count };
      return startThread(openWorker(), start, fail);
    });
    try {
      const answers = await failure.unlessFirst(
        Promise.all(threads.map((thread) => thread.ready)),
      );
      for (const answer of answers) checkTable(answer.tableHash, options.training);
      const fused = answers[0]!.fused;
      return new ThreadTeam({ threads, memory, control, failure, fused, module });
    } catch (error) {
      release(memory, control);
      for (const thread of threads) thread.worker.terminate();
      throw error;
    }
  }

  async run(program: Program, { isShort = false }: RunOptions = {}): Promise<void> {
    if (isShort && this.threads === 1) {
      return this.runHere(program);
    }
    assert(!this.#running, "two programs at once");
    this.#running = true;
    try {
      const first = this.#control / 4;
      const { words, integers } = this.#memory;
      words[first + controlWord.program] = program.address % 2 ** 32;
      words[first + controlWord.program + 1] = Math.floor(program.address / 2 ** 32);
      words[first + controlWord.recordCount] = program.recordCount;
      const epoch = (Atomics.add(integers, first + controlWord.epoch, 1) + 1) | 0;
      Atomics.notify(integers, first + controlWord.epoch);
      await this.#failure.unlessFirst(this.#waitUntilDone(epoch));
    } finally {
      this.#running = false;
    }
  }

  get isHere(): boolean {
    return this.threads === 1 && !this.#running;
  }

  /** The same kernels on the same memory: the same bits. The thread of the team sleeps meanwhile. */
  runHere({ address, recordCount }: Program): void {
    const memory = this.#memory;
    this.#failure.throwIfCome();
    try {
      this.#kernels ??= instantiateKernels(this.#module, memory.memory);
      this.#kernels.run_alone(this.#control, address, recordCount);
    } catch (cause) {
      const error = kernelError(memory, this.#control, cause);
      this.#failure.fail(error);
      throw error;
    }
  }

  async #waitUntilDone(epoch: number): Promise<void> {
    // A view of the control block alone: the rest of the memory may grow meanwhile.
    const buffer = this.#memory.memory.buffer;
    const block = new Int32Array(buffer, this.#control, CONTROL_BYTES / 4);
    while (true) {
      const done = Atomics.load(block, controlWord.done);
      if (done === epoch) return;
      const wait = Atomics.waitAsync(block, controlWord.done, done);
      if (wait.async) await wait.value;
    }
  }

  /** Ends all threads. Nothing may be running. */
  async close(): Promise<void> {
    assert(!this.#running, "close during a program");
    release(this.#memory, this.#control);
    const stopped = Promise.all(this.#threads.map((thread) => thread.stopped));
    // A thread that failed does not say that it stops.
    await this.#failure.unlessFirst(stopped).catch(() => {});
    for (const thread of this.#threads) thread.worker.terminate();
  }
}

/** Tells all threads to leave, wherever they wait. */
function release(memory: LinearMemory, control: number): void {
  const { integers } = memory;
  const first = control / 4;
  Atomics.store(integers, first + controlWord.stop, 1);
  for (const word of [controlWord.epoch, controlWord.generation]) {
    Atomics.add(integers, first + word, 1);
    Atomics.notify(integers, first + word);
  }
}

function startWorker(): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
}

function startThread(
  worker: Worker,
  start: ThreadStart,
  fail: (cause: unknown) => void,
): Thread {
  const ready = Promise.withResolvers<{ tableHash: number; fused: boolean }>();
  const stopped = Promise.withResolvers<void>();
  worker.onmessage = ({ data }: MessageEvent<ThreadMessage>) => {
    if (data.kind === "ready") ready.resolve(data);
    else if (data.kind === "stopped") stopped.resolve();
    else fail(data.message);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    fail(event.message);
  };
  worker.onmessageerror = () => fail("a message could not be read");
  worker.postMessage(start);
  return { worker, ready: ready.promise, stopped: stopped.promise };
}
