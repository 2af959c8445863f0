/**
 * Number formats and seeded inputs of the conformance suite, written independently of `src`:
 * rounding goes through JavaScript's own typed arrays and exact float64 arithmetic.
 */
import { seededRandom } from "@/random.ts";

/** Nearest integer, ties to even. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Nearest bfloat16 (8 significant bits), ties to even, subnormals included. */
export function roundBf16(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), -126);
  const step = 2 ** (exponent - 7);
  return Math.fround(roundHalfEven(value / step) * step);
}

/** Nearest IEEE half. */
export const roundF16: (value: number) => number = Math.f16round;

/** Little-endian file bytes; values that the format cannot hold are rounded. */
export function encodeFile(values: Float32Array, format: "F32" | "F16" | "BF16"): Uint8Array {
  if (format === "F32") return new Uint8Array(values.slice().buffer);
  if (format === "F16") return new Uint8Array(Float16Array.from(values).buffer);
  const words = new Uint32Array(Float32Array.from(values, roundBf16).buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

export interface Quantized {
  readonly codes: readonly number[];
  readonly scale: number;
}

function largestOf(values: readonly number[]): number {
  return Math.max(0, ...values.map(Math.abs));
}

function clampCode(value: number): number {
  return Math.min(127, Math.max(-127, value));
}

/** The places of the extreme value that are tried, and the range of codes less zero. */
const fits = {
  q8: { anchors: [62.75, 63.0625, 63.375, 63.6875, 64, 64.3125, 64.625, 64.9375], zero: 64 },
  q4: { anchors: [7.25, 7.5625, 7.875, 8.1875, 8.5, 8.8125, 9.125, 9.4375], zero: 8 },
};

/** Float32 sum of four interleaved partial sums. */
function sumInLanes(terms: readonly number[]): number {
  const lane = (first: number) =>
    terms.filter((_, i) => i % 4 === first).reduce((sum, term) => Math.fround(sum + term), 0);
  return Math.fround(Math.fround(lane(0) + lane(1)) + Math.fround(lane(2) + lane(3)));
}

/** Codes less zero of one weight group with a bfloat16 scale: the best of eight fits. */
export function quantizeWeights(values: readonly number[], format: "q8" | "q4"): Quantized {
  const { anchors, zero } = fits[format];
  const round = (value: number) => Math.min(zero - 1, Math.max(-zero, roundHalfEven(value)));
  const largest = largestOf(values);
  const extreme = values.find((value) => Math.abs(value) === largest) ?? 0;
  if (largest < 2 ** -100) return { codes: values.map(() => 0), scale: 0 };
  const ratios = values.map((value) => Math.fround(value * Math.fround(1 / extreme)));
  const tried = anchors.map((anchor) => {
    const codes = ratios.map((ratio) => round(Math.fround(-anchor * ratio)));
    const product = sumInLanes(codes.map((code, i) => Math.fround(code * ratios[i]!)));
    const square = sumInLanes(codes.map((code) => code * code));
    const score = Math.fround(Math.fround(product ** 2) / square);
    return { score, ratio: Math.fround(product / square) };
  });
  const best = tried.reduce((a, b) => (b.score > a.score ? b : a));
  const scale = roundBf16(Math.fround(extreme * best.ratio));
  return { codes: values.map((value) => round(Math.fround(value / scale))), scale };
}

/** Int8 codes of one activation group or KV head row with a float32 scale. */
export function quantizeActivations(values: readonly number[]): Quantized {
  const largest = largestOf(values);
  const inverse = Math.fround(127 / largest);
  const codes = values.map((value) =>
    largest === 0 ? 0 : clampCode(roundHalfEven(Math.fround(value * inverse)))
  );
  return { codes, scale: Math.fround(largest / 127) };
}

/** Keys and values of rounded attention: 63 steps either way, by a scale in bfloat16. */
export function quantizeKeys(values: readonly number[]): Quantized {
  const scale = roundBf16(Math.fround(largestOf(values) * Math.fround(1 / 63)));
  const inverse = Math.fround(1 / Math.max(scale, 2 ** -100));
  const steps = values.map((value) => roundHalfEven(Math.fround(value * inverse)));
  return { codes: steps.map((step) => Math.min(63, Math.max(-63, step))), scale };
}

/** What is left of values whose groups of 32 went through codes. */
export function throughCodes(
  values: readonly number[],
  quantize: (values: readonly number[]) => Quantized,
): number[] {
  return groupsOf32(values).flatMap((group) => {
    const { codes, scale } = quantize(group);
    return codes.map((code) => Math.fround(code * scale));
  });
}

/** Splits into groups of 32; the last may be short. */
export function groupsOf32(values: ArrayLike<number>): number[][] {
  const all = Array.from(values);
  return Array.from(
    { length: Math.ceil(all.length / 32) },
    (_, g) => all.slice(32 * g, 32 * g + 32),
  );
}

/** Seeded inputs of one case. */
export class Draw {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  uniform(): number {
    return this.#random();
  }

  integer(below: number): number {
    return Math.floor(this.#random() * below);
  }

  /** Roughly normal values (sum of three uniforms) times `size`, as float32. */
  normals(count: number, size = 1): Float32Array {
    return Float32Array.from({ length: count }, () => {
      return (this.#random() + this.#random() + this.#random() - 1.5) * 2 * size;
    });
  }

  integers(count: number, below: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.integer(below));
  }

  shuffled(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }
}
