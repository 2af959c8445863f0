/** The loss head: log probabilities of targets and their gradient, one row of logits at a time. */
import type { Weights } from "./products.ts";

interface Operands {
  readonly input: Float32Array;
  readonly weight: Weights;
  readonly target: Int32Array;
  readonly logprob: Float32Array;
  readonly entropy: Float32Array;
}

/** Probabilities of row r; writes its logprob and entropy. */
function scoreRow(operands: Operands, r: number): Float64Array {
  const { input, weight, target, logprob, entropy } = operands;
  const { values, rows, columns } = weight;
  const logits = new Float64Array(rows);
  for (let v = 0; v < rows; v++) {
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += input[r * columns + k]! * values[v * columns + k]!;
    logits[v] = sum;
  }
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  const logSum = largest + Math.log(total);
  let mean = 0;
  const probabilities = logits.map((logit) => Math.exp(logit - logSum));
  for (let v = 0; v < rows; v++) mean += probabilities[v]! * logits[v]!;
  logprob[r] = logits[target[r]!]! - logSum;
  entropy[r] = logSum - mean;
  return probabilities;
}

/** See `TrainingOps.headLogprobs`. */
export function headLogprobs(operands: Operands): void {
  for (let r = 0; r < operands.target.length; r++) scoreRow(operands, r);
}

/** See `TrainingOps.headGrad`. */
export function headGrad(
  operands: Operands & {
    readonly coefficient: Float32Array;
    readonly inputGrad: { values: Float32Array; accumulate: boolean } | undefined;
    readonly weightGrad: { values: Float32Array; accumulate: boolean } | undefined;
  },
): void {
  const { input, weight, target, coefficient, inputGrad, weightGrad } = operands;
  const { values, rows, columns } = weight;
  const weightSums = new Float64Array(weightGrad ? rows * columns : 0);
  const inputSums = new Float64Array(columns);
  for (let r = 0; r < target.length; r++) {
    const probabilities = scoreRow(operands, r);
    inputSums.fill(0);
    for (let v = 0; v < rows; v++) {
      const slope = coefficient[r]! * ((v === target[r]! ? 1 : 0) - probabilities[v]!);
      for (let k = 0; k < columns; k++) {
        inputSums[k]! += slope * values[v * columns + k]!;
        if (weightGrad) weightSums[v * columns + k]! += slope * input[r * columns + k]!;
      }
    }
    if (!inputGrad) continue;
    for (let k = 0; k < columns; k++) {
      const at = r * columns + k;
      inputGrad.values[at] = (inputGrad.accumulate ? inputGrad.values[at]! : 0) + inputSums[k]!;
    }
  }
  if (!weightGrad) return;
  weightSums.forEach((sum, at) => {
    weightGrad.values[at] = (weightGrad.accumulate ? weightGrad.values[at]! : 0) + sum;
  });
}
