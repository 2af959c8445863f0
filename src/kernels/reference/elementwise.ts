/** Ops that treat every element (or every row copy) alone. Steps in float64, rounded once. */
import { assert } from "@/assert.ts";
import { erfc } from "./erf.ts";

/** See `Ops.swiglu`. */
export function swiglu(args: { gate: Float32Array; up: Float32Array; out: Float32Array }): void {
  const { gate, up, out } = args;
  for (let i = 0; i < out.length; i++) out[i] = gate[i]! / (1 + Math.exp(-gate[i]!)) * up[i]!;
}

/** See `Ops.gelu`: x * Phi(x), with Phi(x) = erfc(-x / sqrt 2) / 2. */
export function gelu(args: { input: Float32Array; out: Float32Array }): void {
  const { input, out } = args;
  for (let i = 0; i < out.length; i++) {
    const x = input[i]!;
    out[i] = x === -Infinity ? 0 : x * 0.5 * erfc(-x * Math.SQRT1_2);
  }
}

/** See `Ops.add`. */
export function add(args: { left: Float32Array; right: Float32Array; out: Float32Array }): void {
  const { left, right, out } = args;
  for (let i = 0; i < out.length; i++) out[i] = left[i]! + right[i % right.length]!;
}

/** See `Ops.copyRows`. */
export function copyRows(
  args: {
    source: Float32Array;
    sourceRow: Int32Array | undefined;
    out: Float32Array;
    outRow: Int32Array | undefined;
    width: number;
    rowCount: number;
  },
): void {
  const { source, sourceRow, out, outRow, width, rowCount } = args;
  for (let i = 0; i < rowCount; i++) {
    const from = (sourceRow ? sourceRow[i]! : i) * width;
    const to = (outRow ? outRow[i]! : i) * width;
    assert(from >= 0 && from + width <= source.length, `source row ${from / width} is outside`);
    assert(to >= 0 && to + width <= out.length, `out row ${to / width} is outside`);
    out.set(source.subarray(from, from + width), to);
  }
}

/** See `Ops.rope`. */
export function rope(
  args: {
    input: Float32Array;
    position: Int32Array;
    table: Float32Array;
    headWidth: number;
    rowWidth: number;
    out: Float32Array;
  },
): void {
  const { input, position, table, headWidth, rowWidth, out } = args;
  const half = headWidth / 2;
  position.forEach((tablePosition, r) => {
    const angles = tablePosition * headWidth;
    assert(
      angles >= 0 && angles + headWidth <= table.length,
      `position ${tablePosition} of ${table.length / headWidth}`,
    );
    for (let head = r * rowWidth; head < (r + 1) * rowWidth; head += headWidth) {
      for (let d = 0; d < half; d++) {
        const cosine = table[angles + d]!;
        const sine = table[angles + half + d]!;
        const first = input[head + d]!;
        const second = input[head + half + d]!;
        out[head + d] = first * cosine - second * sine;
        out[head + half + d] = second * cosine + first * sine;
      }
    }
  });
}
