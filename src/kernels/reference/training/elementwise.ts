/** Gradients of ops that treat every element, or every row copy, alone. */
import { erfc } from "../erf.ts";

/** See `TrainingOps.accumulate`. */
export function accumulate(args: { input: Float32Array; out: Float32Array }): void {
  const { input, out } = args;
  for (let i = 0; i < out.length; i++) out[i]! += input[i]!;
}

/** See `TrainingOps.swigluGrad`. */
export function swigluGrad(
  args: {
    gate: Float32Array;
    up: Float32Array;
    outGrad: Float32Array;
    gateGrad: Float32Array;
    upGrad: Float32Array;
  },
): void {
  const { gate, up, outGrad, gateGrad, upGrad } = args;
  for (let i = 0; i < outGrad.length; i++) {
    const x = gate[i]!;
    const sigmoid = 1 / (1 + Math.exp(-x));
    upGrad[i] = outGrad[i]! * x * sigmoid;
    gateGrad[i] = outGrad[i]! * up[i]! * sigmoid * (1 + x * (1 - sigmoid));
  }
}

/** See `TrainingOps.geluGrad`: Phi(x) + x * phi(x). */
export function geluGrad(
  args: {
    input: Float32Array;
    outGrad: Float32Array;
    accumulate: boolean;
    inputGrad: Float32Array;
  },
): void {
  const { input, outGrad, inputGrad } = args;
  for (let i = 0; i < input.length; i++) {
    const x = input[i]!;
    const density = Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
    const slope = 0.5 * erfc(-x * Math.SQRT1_2) + x * density;
    inputGrad[i] = (args.accumulate ? inputGrad[i]! : 0) + outGrad[i]! * slope;
  }
}

/** See `TrainingOps.ropeGrad`. */
export function ropeGrad(
  args: {
    outGrad: Float32Array;
    position: Int32Array;
    table: Float32Array;
    headWidth: number;
    rowWidth: number;
    accumulate: boolean;
    inputGrad: Float32Array;
  },
): void {
  const { outGrad, position, table, headWidth, rowWidth, inputGrad } = args;
  const half = headWidth / 2;
  position.forEach((tablePosition, r) => {
    const angles = tablePosition * headWidth;
    for (let head = r * rowWidth; head < (r + 1) * rowWidth; head += headWidth) {
      for (let d = 0; d < half; d++) {
        const cosine = table[angles + d]!;
        const sine = table[angles + half + d]!;
        const [first, second] = [outGrad[head + d]!, outGrad[head + half + d]!];
        const before = args.accumulate
          ? [inputGrad[head + d]!, inputGrad[head + half + d]!] as const
          : [0, 0] as const;
        inputGrad[head + d] = before[0] + first * cosine + second * sine;
        inputGrad[head + half + d] = before[1] + second * cosine - first * sine;
      }
    }
  });
}

/** See `TrainingOps.copyRowsGrad`. */
export function copyRowsGrad(
  args: {
    outGrad: Float32Array;
    outRow: Int32Array | undefined;
    sourceGrad: Float32Array;
    sourceRow: Int32Array | undefined;
    width: number;
    rowCount: number;
  },
): void {
  const { outGrad, outRow, sourceGrad, sourceRow, width, rowCount } = args;
  for (let i = 0; i < rowCount; i++) {
    const from = (outRow ? outRow[i]! : i) * width;
    const to = (sourceRow ? sourceRow[i]! : i) * width;
    for (let d = 0; d < width; d++) sourceGrad[to + d]! += outGrad[from + d]!;
  }
}

/** See `TrainingOps.zeroRows`. */
export function zeroRows(
  args: { out: Float32Array; row: Int32Array | undefined; width: number; rowCount: number },
): void {
  const { out, row, width, rowCount } = args;
  for (let i = 0; i < rowCount; i++) {
    const at = (row ? row[i]! : i) * width;
    out.fill(0, at, at + width);
  }
}

/** See `TrainingOps.gatherRowsGrad`. */
export function gatherRowsGrad(
  args: { outGrad: Float32Array; rowIndex: Int32Array; tableGrad: Float32Array; width: number },
): void {
  const { outGrad, rowIndex, tableGrad, width } = args;
  rowIndex.forEach((row, r) => {
    for (let d = 0; d < width; d++) tableGrad[row * width + d]! += outGrad[r * width + d]!;
  });
}
