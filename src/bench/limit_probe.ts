/**
 * Measures limits again and again: those of the processor on a thread team of its own, opened when
 * it is first asked, or those of a GPU on a device of its own each time.
 */
import type { Clock } from "@/clock.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { LimitMeter } from "@/kernels/wasm/probe.ts";
import { measureDevice } from "@/kernels/webgpu/probe.ts";
import type { LimitProbe, Limits } from "./limits.ts";

/** Memory and repeats of a brief look, which tells nothing of the machine. */
const BRIEF = { readBytes: 8 * 1024 * 1024, repeats: 1 } as const;
/** Of the arithmetic peaks in a measurement, and in a glance between two samples. */
const [REPEATS, GLANCE_REPEATS] = [5, 3];
/** Of reading, some 40 ms each: on a shared host one may be twice as fast as the next. */
const READ_REPEATS = 20;

/** The GPU's limits; both int8 peaks are that of packed dot products. */
export class DeviceProbe implements LimitProbe, AsyncDisposable {
  readonly #options: { readonly clock: Clock; readonly brief: boolean };
  #last: Limits | undefined;

  constructor(options: { readonly clock: Clock; readonly brief: boolean }) {
    this.#options = options;
  }

  /** Throws OperatingError("unavailable") when there is no GPU. */
  async measure(): Promise<Limits> {
    const { readBytes, dotOps, f32Ops } = await measureDevice(this.#options);
    const dot = dotOps / 1e9;
    this.#last = { readGBs: readBytes / 1e9, i16Gops: dot, dot3Gops: dot, f32Gops: f32Ops / 1e9 };
    return this.#last;
  }

  /** A card's own memory does not change by the second, and measuring it takes some. */
  async glance(): Promise<Limits> {
    return this.#last ?? await this.measure();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

export interface TeamProbeOptions extends WasmBackendOptions {
  readonly clock: Clock;
  /** For tests of the benchmark: too little memory to be true. */
  readonly brief: boolean;
}

export class TeamProbe implements LimitProbe, AsyncDisposable {
  readonly #options: TeamProbeOptions;
  #opened: Promise<{ backend: Backend; meter: LimitMeter }> | undefined;

  constructor(options: TeamProbeOptions) {
    this.#options = options;
  }

  /** Throws OperatingError("unavailable") when the kernels cannot be opened. */
  measure(): Promise<Limits> {
    return this.#measure(REPEATS);
  }

  glance(): Promise<Limits> {
    return this.#measure(GLANCE_REPEATS);
  }

  async #measure(repeats: number): Promise<Limits> {
    this.#opened ??= this.#open();
    const { meter } = await this.#opened;
    const limits = await meter.measure(
      this.#options.brief ? BRIEF : { repeats, readRepeats: READ_REPEATS },
    );
    return {
      readGBs: limits.readBytes / 1e9,
      i16Gops: limits.i16Ops / 1e9,
      dot3Gops: limits.dot3Ops / 1e9,
      f32Gops: limits.f32Ops / 1e9,
    };
  }

  async #open(): Promise<{ backend: Backend; meter: LimitMeter }> {
    const { clock, brief, ...options } = this.#options;
    const backend = await openWasmBackend(options);
    const meter = new LimitMeter(backend, { clock, ...(brief && BRIEF) });
    return { backend, meter };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#opened)?.backend.close();
  }
}
