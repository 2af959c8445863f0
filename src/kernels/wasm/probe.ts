/**
 * What this machine's WebAssembly can do at most, measured on a backend's own thread team: figures
 * that benchmarks set results against. The loops are in `kernels-rs/compute/src/probe.rs`.
 */
import { assert } from "@/assert.ts";
import { type Clock, systemClock } from "@/clock.ts";
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

/** One reading that a caller may want at a moment of its own, e.g. before and after a benchmark. */
export async function measureLimits(
  backend: Backend,
  options: { clock?: Clock; repeats?: number; readBytes?: number } = {},
): Promise<MachineLimits> {
  assert(backend instanceof WasmBackend, `limits of the ${backend.name} backend`);
  const { clock = systemClock, repeats = 5, readBytes = READ_BYTES } = options;
  const memory = backend.allocate("u8", [readBytes]);
  const out = backend.allocate("f32", [backend.description.threads]);
  try {
    // Pages that nobody wrote share one page of zeros, which lies in a cache.
    backend.write(memory, new Uint8Array(readBytes).fill(1));
    const best = async (kind: Kind, count: number): Promise<number> => {
      let shortestMs = Infinity;
      for (let repeat = 0; repeat <= repeats; repeat++) {
        const startMs = clock.nowMs();
        backend.probe({ kind: kinds.indexOf(kind), memory, count, out });
        await backend.flush();
        // The first run may compile the loop.
        if (repeat > 0) shortestMs = Math.min(shortestMs, clock.nowMs() - startMs);
      }
      return shortestMs / 1000;
    };
    const peak = async (kind: Exclude<Kind, "read">): Promise<number> => {
      const seconds = await best(kind, PEAK_TURNS);
      return turnOps[kind] * PEAK_TURNS * backend.description.threads / seconds;
    };
    return {
      readBytes: readBytes / await best("read", readBytes),
      i16Ops: await peak("i16"),
      dot3Ops: await peak("dot3"),
      f32Ops: await peak("f32"),
    };
  } finally {
    backend.free(memory);
    backend.free(out);
  }
}
