/**
 * Measures limits again and again: those of the processor on a thread team of its own, opened when
 * it is first asked, or those of a GPU on a device of its own each time.
 */
import type { Clock } from "@/clock.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { measureLimits } from "@/kernels/wasm/probe.ts";
import { measureDevice } from "@/kernels/webgpu/probe.ts";
import type { LimitProbe, Limits } from "./limits.ts";

/** Memory and repeats of a brief look, which tells nothing of the machine. */
const BRIEF = { readBytes: 8 * 1024 * 1024, repeats: 1 } as const;

/** The GPU's limits; both int8 peaks are that of packed dot products. */
export class DeviceProbe implements LimitProbe, AsyncDisposable {
  readonly #options: { readonly clock: Clock; readonly brief: boolean };

  constructor(options: { readonly clock: Clock; readonly brief: boolean }) {
    this.#options = options;
  }

  /** Throws OperatingError("unavailable") when there is no GPU. */
  async measure(): Promise<Limits> {
    const { readBytes, dotOps, f32Ops } = await measureDevice(this.#options);
    const dot = dotOps / 1e9;
    return { readGBs: readBytes / 1e9, i16Gops: dot, dot3Gops: dot, f32Gops: f32Ops / 1e9 };
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
  #backend: Promise<Backend> | undefined;

  constructor(options: TeamProbeOptions) {
    this.#options = options;
  }

  /** Throws OperatingError("unavailable") when the kernels cannot be opened. */
  async measure(): Promise<Limits> {
    const { clock, brief, ...options } = this.#options;
    this.#backend ??= openWasmBackend(options);
    const backend = await this.#backend;
    const limits = await measureLimits(backend, { clock, ...(brief && BRIEF) });
    return {
      readGBs: limits.readBytes / 1e9,
      i16Gops: limits.i16Ops / 1e9,
      dot3Gops: limits.dot3Ops / 1e9,
      f32Gops: limits.f32Ops / 1e9,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#backend)?.close();
  }
}
