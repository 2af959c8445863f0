/**
 * What this machine's WebAssembly can do at most, measured on a backend's own thread team: figures
 * that benchmarks set results against. The loops are in `kernels-rs/compute/src/probe.rs`.
 */
import { assert } from "@/assert.ts";
import { type Clock, systemClock } from "@/clock.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Backend } from "../backend.ts";
import { WasmBackend } from "./backend.ts";

export interface MachineLimits {
  /** Bytes read per second: every byte once, from more memory than caches hold. */
  readonly readBytes: number;
  /** Operations per second, two per multiply-add: int8 products added in 16 bits, as in q4. */
  readonly i16Ops: number;
  /** The same, widened and added in 32 bits, as in q8. */
  readonly dot3Ops: number;
  /** The same in float32. */
  readonly f32Ops: number;
}

/** In the order of the kernels' numbers. */
const kinds = ["read", "i16", "dot3", "f32"] as const;
type Kind = (typeof kinds)[number];

/** Operations of one turn: twelve chains of one vector each. */
const turnOps: Readonly<Record<Exclude<Kind, "read">, number>> = {
  i16: 12 * 32,
  dot3: 12 * 32,
  f32: 12 * 8,
};

/** Streamed by default: far more than any cache. */
const READ_BYTES = 640 * 1024 * 1024;
/** Turns that take some twenty milliseconds. */
const PEAK_TURNS = 8_000_000;

/** Measures limits as often as wanted, each as the median of its repeats, as rows are. */
export class LimitMeter {
  readonly #backend: WasmBackend;
  readonly #clock: Clock;
  readonly #readBytes: number;
  readonly #memory: Tensor;
  readonly #out: Tensor;

  /** Holds `readBytes` of the backend's memory until it is freed. */
  constructor(backend: Backend, options: { clock?: Clock; readBytes?: number } = {}) {
    assert(backend instanceof WasmBackend, `limits of the ${backend.name} backend`);
    const { clock = systemClock, readBytes = READ_BYTES } = options;
    this.#backend = backend;
    this.#clock = clock;
    this.#readBytes = readBytes;
    this.#memory = backend.allocate("u8", [readBytes]);
    this.#out = backend.allocate("f32", [backend.description.threads]);
    // Pages that nobody wrote share one page of zeros, which lies in a cache.
    backend.write(this.#memory, new Uint8Array(readBytes).fill(1));
  }

  /** `readRepeats`: of reading, whose speed may change from one moment to the next. */
  async measure(
    { repeats = 5, readRepeats = repeats }: { repeats?: number; readRepeats?: number } = {},
  ): Promise<MachineLimits> {
    const { threads } = this.#backend.description;
    const peak = async (kind: Exclude<Kind, "read">): Promise<number> => {
      const seconds = await this.#seconds(kind, { count: PEAK_TURNS, repeats });
      return turnOps[kind] * PEAK_TURNS * threads / seconds;
    };
    const count = this.#readBytes;
    return {
      readBytes: count / await this.#seconds("read", { count, repeats: readRepeats }),
      i16Ops: await peak("i16"),
      dot3Ops: await peak("dot3"),
      f32Ops: await peak("f32"),
    };
  }

  free(): void {
    this.#backend.free(this.#memory);
    this.#backend.free(this.#out);
  }

  /** Median of one run. */
  async #seconds(
    kind: Kind,
    { count, repeats }: { count: number; repeats: number },
  ): Promise<number> {
    const times: number[] = [];
    for (let repeat = 0; repeat <= repeats; repeat++) {
      const startMs = this.#clock.nowMs();
      this.#backend.probe({
        kind: kinds.indexOf(kind),
        memory: this.#memory,
        count,
        out: this.#out,
      });
      await this.#backend.flush();
      // The first run may compile the loop.
      if (repeat > 0) times.push(this.#clock.nowMs() - startMs);
    }
    times.sort((a, b) => a - b);
    return times[times.length >> 1]! / 1000;
  }
}

/** One reading that a caller may want at a moment of its own, e.g. before and after a benchmark. */
export async function measureLimits(
  backend: Backend,
  options: { clock?: Clock; repeats?: number; readBytes?: number } = {},
): Promise<MachineLimits> {
  const meter = new LimitMeter(backend, options);
  try {
    return await meter.measure(options);
  } finally {
    meter.free();
  }
}
