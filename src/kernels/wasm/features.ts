/** What this runtime can run: tiny modules that validate only with a feature, and the globals. */
import { wideMemory } from "./memory.ts";
import { type Variant, WIDE_VARIANT } from "./variants.ts";

export interface Features {
  readonly simd: boolean;
  readonly relaxedSimd: boolean;
  /** Atomics in WebAssembly, and everything that a thread team needs around them. */
  readonly threads: boolean;
  /** Why there are no threads, when there are none. */
  readonly threadsReason: string;
  /** Memories with 64-bit addresses, shared ones too. */
  readonly memory64: boolean;
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

/** i32.load from a shared memory at a 64-bit address. */
const memory64Module = [
  ...header,
  ...[1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 7, 1, 1, 10, 10, 1, 8, 0, 66, 0, 40, 2, 0, 26, 11],
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
    memory64: threadsReason === "" && hasMemory64(),
  };
}

/** Modules and the JavaScript interface came at different times: older engines call it `index`. */
function hasMemory64(): boolean {
  if (!validates(memory64Module)) return false;
  try {
    wideMemory({ initialPages: 0, maximumPages: 1 });
    return true;
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return false;
    throw error;
  }
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
  if (variant.startsWith("relaxed") && !features.relaxedSimd) return "relaxed SIMD is missing";
  if (variant === WIDE_VARIANT && !features.memory64) return "64-bit memory is missing";
  return "";
}
