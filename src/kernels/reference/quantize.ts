/** Int8 rounding rules, shared by weights, activations and the KV cache. Sources: `ops.ts`. */
import { roundToBf16 } from "@/tensor/half.ts";

/** Values that share one scale, along the input width. */
export const GROUP_WIDTH = 32;

/** 1.5 * 2^52: adding and subtracting it rounds a small double to an integer, ties to even. */
const ROUNDING_CONSTANT = 6755399441055744;

/** Nearest integer in [-127, 127], ties to even; NaN becomes 0 when stored as int8. */
function roundToInt8(value: number): number {
  const clamped = Math.max(-127, Math.min(127, value));
  return (clamped + ROUNDING_CONSTANT) - ROUNDING_CONSTANT;
}

function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
}

/** Quantises a weight group; the returned scale is a bfloat16. A zero scale means all zeros. */
export function quantizeWeightGroup(values: Float32Array, codes: Int8Array): number {
  const scale = roundToBf16(Math.fround(largestMagnitude(values) / 127));
  for (let i = 0; i < values.length; i++) {
    codes[i] = scale === 0 ? 0 : roundToInt8(Math.fround(values[i]! / scale));
  }
  return scale;
}

/** Quantises activations (a group of 32) or one KV head row; the returned scale is a float32. */
export function quantizeActivationGroup(
  values: Float32Array,
  codes: Int8Array | Float32Array,
): number {
  const largest = largestMagnitude(values);
  const inverse = largest === 0 ? 0 : Math.fround(127 / largest);
  for (let i = 0; i < values.length; i++) {
    codes[i] = roundToInt8(Math.fround(values[i]! * inverse));
  }
  return Math.fround(largest / 127);
}
