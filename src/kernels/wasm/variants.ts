/** Names of the kernels' builds. Which of them a runtime can run is `features.ts`. */

/** The committed artefacts with 32-bit addresses (up to 4 GiB), best first. */
export const narrowVariants = ["relaxed-threads", "simd-threads", "simd"] as const;

/** The one with 64-bit addresses: the same kernels and the same results as its namesake. */
export const WIDE_VARIANT = "relaxed-threads-64";

/** All committed artefacts. */
export const variants = [...narrowVariants, WIDE_VARIANT] as const;

/** Those that also come with the ops of training. */
export const trainingVariants: readonly Variant[] = ["relaxed-threads", "simd"];

export type Variant = (typeof variants)[number];
