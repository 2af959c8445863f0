/** Measures the machine's limits on a thread team of its own, opened when it is first asked. */
import type { Clock } from "@/clock.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { measureLimits } from "@/kernels/wasm/probe.ts";
import type { LimitProbe, Limits } from "./limits.ts";

/** Memory and repeats of a brief look, which tells nothing of the machine. */
const BRIEF = { readBytes: 8 * 1024 * 1024, repeats: 1 } as const;

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
