/** Gradients of matrix products and of the expert dispatch around them, as plain loops. */

/** A float32 weight or its gradient: values [experts * rows, columns]. */
export interface Weights {
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
}

/** See `TrainingOps.matmulAdd`. */
export function matmulAdd(
  args: { input: Float32Array; weight: Weights; scale: number; out: Float32Array },
): void {
  const { input, weight, scale, out } = args;
  const { values, rows, columns } = weight;
  for (let r = 0; r < out.length / rows; r++) {
    for (let n = 0; n < rows; n++) {
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += input[r * columns + k]! * values[n * columns + k]!;
      out[r * rows + n]! += scale * sum;
    }
  }
}

/** inputGrad[r] (+)= scale * outGrad[r] * weight[expert] for rows in [first, end). */
function inputGradRows(
  args: {
    outGrad: Float32Array;
    weight: Weights;
    expert: number;
    first: number;
    end: number;
    scale: number;
    accumulate: boolean;
    inputGrad: Float32Array;
  },
): void {
  const { outGrad, weight, expert, scale, accumulate, inputGrad } = args;
  const { values, rows, columns } = weight;
  const sums = new Float64Array(columns);
  for (let r = args.first; r < args.end; r++) {
    sums.fill(0);
    for (let n = 0; n < rows; n++) {
      const gradient = outGrad[r * rows + n]!;
      const from = (expert * rows + n) * columns;
      for (let k = 0; k < columns; k++) sums[k]! += gradient * values[from + k]!;
    }
    for (let k = 0; k < columns; k++) {
      const before = accumulate ? inputGrad[r * columns + k]! : 0;
      inputGrad[r * columns + k] = before + scale * sums[k]!;
    }
  }
}

/** See `TrainingOps.matmulInputGrad`. */
export function matmulInputGrad(
  args: {
    outGrad: Float32Array;
    weight: Weights;
    scale: number;
    accumulate: boolean;
    inputGrad: Float32Array;
  },
): void {
  inputGradRows({ ...args, expert: 0, first: 0, end: args.outGrad.length / args.weight.rows });
}

/** See `TrainingOps.expertInputGrad`. */
export function expertInputGrad(
  args: {
    outGrad: Float32Array;
    weight: Weights;
    expertStart: Int32Array;
    inputGrad: Float32Array;
  },
): void {
  const { expertStart } = args;
  for (let expert = 0; expert < expertStart.length - 1; expert++) {
    const [first, end] = [expertStart[expert]!, expertStart[expert + 1]!];
    inputGradRows({ ...args, expert, first, end, scale: 1, accumulate: false });
  }
}

/** weightGrad[expert] (+)= scale * sum over i of outGrad[first + i]^T * input[inputRow(first + i)]. */
function weightGradRows(
  args: {
    input: Float32Array;
    outGrad: Float32Array;
    inputRow: (row: number) => number;
    expert: number;
    first: number;
    end: number;
    scale: number;
    accumulate: boolean;
    weightGrad: Weights;
  },
): void {
  const { input, outGrad, inputRow, expert, first, end, scale, accumulate, weightGrad } = args;
  const { values, rows, columns } = weightGrad;
  const sums = new Float64Array(columns);
  for (let n = 0; n < rows; n++) {
    sums.fill(0);
    for (let r = first; r < end; r++) {
      const gradient = outGrad[r * rows + n]!;
      const from = inputRow(r) * columns;
      for (let k = 0; k < columns; k++) sums[k]! += gradient * input[from + k]!;
    }
    const to = (expert * rows + n) * columns;
    for (let k = 0; k < columns; k++) {
      values[to + k] = (accumulate ? values[to + k]! : 0) + scale * sums[k]!;
    }
  }
}

/** See `TrainingOps.matmulWeightGrad`. */
export function matmulWeightGrad(
  args: {
    input: Float32Array;
    outGrad: Float32Array;
    scale: number;
    accumulate: boolean;
    weightGrad: Weights;
  },
): void {
  const end = args.outGrad.length / args.weightGrad.rows;
  weightGradRows({ ...args, inputRow: (row) => row, expert: 0, first: 0, end });
}

/** See `TrainingOps.expertWeightGrad`. */
export function expertWeightGrad(
  args: {
    input: Float32Array;
    outGrad: Float32Array;
    expertStart: Int32Array;
    groupedPair: Int32Array;
    choices: number | undefined;
    accumulate: boolean;
    weightGrad: Weights;
  },
): void {
  const { expertStart, groupedPair, choices } = args;
  const inputRow = (place: number) =>
    choices === undefined ? place : Math.floor(groupedPair[place]! / choices);
  for (let expert = 0; expert < expertStart.length - 1; expert++) {
    const [first, end] = [expertStart[expert]!, expertStart[expert + 1]!];
    weightGradRows({ ...args, inputRow, expert, first, end, scale: 1 });
  }
}

/** See `TrainingOps.sumPairs`. */
export function sumPairs(
  args: {
    input: Float32Array;
    pairPlace: Int32Array;
    choices: number;
    width: number;
    accumulate: boolean;
    out: Float32Array;
  },
): void {
  const { input, pairPlace, choices, width, accumulate, out } = args;
  for (let r = 0; r < out.length / width; r++) {
    const places = pairPlace.slice(r * choices, (r + 1) * choices).sort();
    for (let i = 0; i < width; i++) {
      let sum = accumulate ? out[r * width + i]! : 0;
      for (const place of places) sum += input[place * width + i]!;
      out[r * width + i] = sum;
    }
  }
}

/** See `TrainingOps.combineRowsGrad`. */
export function combineRowsGrad(
  args: {
    outGrad: Float32Array;
    input: Float32Array;
    pairPlace: Int32Array;
    expertWeight: Float32Array;
    choices: number;
    width: number;
    inputGrad: Float32Array;
    weightGrad: Float32Array;
  },
): void {
  const { outGrad, input, pairPlace, expertWeight, choices, width, inputGrad, weightGrad } = args;
  for (let pair = 0; pair < pairPlace.length; pair++) {
    const row = Math.floor(pair / choices);
    const place = pairPlace[pair]!;
    let dot = 0;
    for (let i = 0; i < width; i++) {
      const gradient = outGrad[row * width + i]!;
      dot += gradient * input[place * width + i]!;
      inputGrad[place * width + i] = expertWeight[pair]! * gradient;
    }
    weightGrad[pair] = dot;
  }
}

/** See `TrainingOps.columnSums`. */
export function columnSums(
  args: { input: Float32Array; accumulate: boolean; out: Float32Array },
): void {
  const { input, accumulate, out } = args;
  const width = out.length;
  for (let c = 0; c < width; c++) {
    let sum = accumulate ? out[c]! : 0;
    for (let at = c; at < input.length; at += width) sum += input[at]!;
    out[c] = sum;
  }
}
