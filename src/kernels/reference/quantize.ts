/** Rounding rules of quantised values, shared by weights, activations and the KV cache. */
import { roundToBf16 } from "@/tensor/half.ts";
import { type QuantisedFormat, zeroCode } from "../matrix_layout.ts";

/** 1.5 * 2^52: adding and subtracting it rounds a small double to an integer, ties to even. */
const ROUNDING_CONSTANT = 6755399441055744;

/** Nearest integer, ties to even. */
function nearest(value: number): number {
  return (value + ROUNDING_CONSTANT) - ROUNDING_CONSTANT;
}

/** Nearest integer in [-127, 127]; NaN becomes 0 when stored as int8. */
function roundToInt8(value: number): number {
  return nearest(Math.max(-127, Math.min(127, value)));
}

/**
 * Places where the value of largest magnitude may come to lie, as codes less z: around the lowest
 * code, which is the one that the other sign lacks. The best of them is kept.
 */
const firstAnchor: Readonly<Record<QuantisedFormat, number>> = { q8: -62.75, q4: -7.25 };
const ANCHOR_STEP = -0.3125;
const ANCHORS = 8;
/** Groups below this vanish: their reciprocal would not be a float32. */
const SMALLEST_EXTREME = 2 ** -100;

/**
 * Quantises a weight group to codes less z. Each anchor a gives codes round(v * a / extreme); the
 * one whose best scale leaves the least squared error wins, (sum v q)^2 / sum q^2 being largest.
 * The scale (sum v q) / (sum q^2) is rounded to bfloat16, and the codes are taken anew for it. All
 * steps in float32, sums in four lanes, as the kernels do it. A zero scale means all zeros.
 */
export function quantizeWeightGroup(
  values: Float32Array,
  codes: Int8Array,
  format: QuantisedFormat,
): number {
  const extreme = extremeOf(values);
  if (!(Math.abs(extreme) >= SMALLEST_EXTREME)) {
    codes.fill(0);
    return 0;
  }
  const inverse = Math.fround(1 / extreme);
  const ratios = values.map((value) => value * inverse);
  let best = { score: -1, ratio: 0 };
  for (let i = 0; i < ANCHORS; i++) {
    const found = fitAnchor(ratios, firstAnchor[format] + i * ANCHOR_STEP, format);
    if (found.score > best.score) best = found;
  }
  const scale = roundToBf16(Math.fround(extreme * best.ratio));
  for (let i = 0; i < values.length; i++) {
    codes[i] = scale === 0 ? 0 : roundToCode(Math.fround(values[i]! / scale), format);
  }
  return scale;
}

/** The value of largest magnitude, the first of equals. */
function extremeOf(values: Float32Array): number {
  let extreme = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  return extreme;
}

/** Nearest code less z. */
function roundToCode(value: number, format: QuantisedFormat): number {
  const zero = zeroCode[format];
  return Math.max(-zero, Math.min(zero - 1, nearest(value)));
}

function fitAnchor(
  ratios: Float32Array,
  anchor: number,
  format: QuantisedFormat,
): { score: number; ratio: number } {
  const products = new Float32Array(4);
  const squares = new Float32Array(4);
  for (let i = 0; i < ratios.length; i++) {
    const code = roundToCode(Math.fround(ratios[i]! * anchor), format);
    products[i % 4]! += Math.fround(ratios[i]! * code);
    squares[i % 4]! += code * code;
  }
  const [product, square] = [laneSum(products), laneSum(squares)];
  return {
    score: Math.fround(Math.fround(product * product) / square),
    ratio: Math.fround(product / square),
  };
}

function laneSum([a, b, c, d]: Float32Array): number {
  return Math.fround(Math.fround(a! + b!) + Math.fround(c! + d!));
}

function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
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

/**
 * Quantises keys or values of attention, a group of 32, to codes of seven bits less 64: the nearest
 * of 63 steps either way. The scale is rounded to bfloat16; below 2^-100 it counts as that.
 */
export function quantizeKeyGroup(values: Float32Array, codes: Int8Array): number {
  const scale = roundToBf16(Math.fround(largestMagnitude(values) * Math.fround(1 / 63)));
  const inverse = Math.fround(1 / Math.max(scale, SMALLEST_EXTREME));
  for (let i = 0; i < values.length; i++) {
    const steps = nearest(Math.fround(values[i]! * inverse));
    codes[i] = Math.max(-63, Math.min(63, steps));
  }
  return scale;
}
