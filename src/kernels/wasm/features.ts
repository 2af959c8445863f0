/** What this runtime can run: tiny modules that validate only with a feature, and the globals. */

/** The committed artefacts, best first. */
export const variants = ["relaxed-threads", "simd-threads", "simd"] as const;

export type Variant = (typeof variants)[number];

export interface Features {
  readonly simd: boolean;
  readonly relaxedSimd: boolean;
  /** Atomics in WebAssembly, and everything that a thread team needs around them. */
  readonly threads: boolean;
  /** Why there are no threads, when there are none. */
  readonly threadsReason: string;
}

const header = [0, 97, 115, 109, 1, 0, 0, 0];
/** i8x16.popcnt of a splat. */
const simdModule = [
  ...header,
  ...[1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11],
];
/** i8x16.relaxed_swizzle of two splats. */
const relaxedModule = [
  ...header,
  ...[1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15],
  ...[253, 128, 2, 11],
];
/** i32.atomic.load from a shared memory. */
const threadsModule = [
  ...header,
  ...[1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65, 0, 254, 16, 2, 0],
  ...[26, 11],
];

const validates = (bytes: readonly number[]) => WebAssembly.validate(new Uint8Array(bytes));

/** Probes the runtime. */
export function probeFeatures(): Features {
  const threadsReason = missingForThreads();
  return {
    simd: validates(simdModule),
    relaxedSimd: validates(relaxedModule),
    threads: threadsReason === "",
    threadsReason,
  };
}

function missingForThreads(): string {
  if (!validates(threadsModule)) return "WebAssembly threads are missing";
  if (typeof SharedArrayBuffer === "undefined") return "SharedArrayBuffer is missing";
  if (globalThis.crossOriginIsolated === false && "document" in globalThis) {
    return "the page is not cross-origin isolated";
  }
  if (typeof Worker === "undefined") return "Worker is missing";
  if (typeof Atomics.waitAsync !== "function") return "Atomics.waitAsync is missing";
  return "";
}

/** Why a variant cannot run with these features; empty when it can. */
export function obstacle(variant: Variant, features: Features): string {
  if (!features.simd) return "SIMD is missing";
  if (variant !== "simd" && !features.threads) return features.threadsReason;
  if (variant === "relaxed-threads" && !features.relaxedSimd) return "relaxed SIMD is missing";
  return "";
}
