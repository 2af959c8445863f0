/** Gradient norm and AdamW on flat arrays. */
import { SQUARE_BLOCK } from "../../training_ops.ts";

/** See `TrainingOps.squareSums`. */
export function squareSums(args: { input: Float32Array; partial: Float32Array }): void {
  const { input, partial } = args;
  for (let block = 0; block < partial.length; block++) {
    const end = Math.min(input.length, (block + 1) * SQUARE_BLOCK);
    let sum = 0;
    for (let i = block * SQUARE_BLOCK; i < end; i++) sum += input[i]! ** 2;
    partial[block] = sum;
  }
}

/** See `TrainingOps.clipFactor`. */
export function clipFactor(
  args: { partial: Float32Array; normMax: number; norm: Float32Array },
): void {
  const { partial, normMax, norm } = args;
  let sum = 0;
  for (const part of partial) sum += part;
  norm[0] = Math.sqrt(sum);
  norm[1] = normMax > 0 ? Math.min(1, normMax / (norm[0]! + 1e-6)) : 1;
}

/** See `TrainingOps.adamW`. */
export function adamW(
  args: {
    weights: Float32Array;
    gradient: Float32Array;
    first: Float32Array;
    second: Float32Array;
    norm: Float32Array;
    rate: number;
    decay: number;
    beta1: number;
    beta2: number;
    epsilon: number;
    step: number;
  },
): void {
  const { weights, gradient, first, second, norm, rate, decay, beta1, beta2, epsilon, step } = args;
  const firstScale = rate / (1 - beta1 ** step);
  const secondScale = 1 / Math.sqrt(1 - beta2 ** step);
  for (let i = 0; i < weights.length; i++) {
    const g = gradient[i]! * norm[1]!;
    first[i] = beta1 * first[i]! + (1 - beta1) * g;
    second[i] = beta2 * second[i]! + (1 - beta2) * g * g;
    const root = Math.sqrt(second[i]!) * secondScale + epsilon;
    weights[i] = weights[i]! * (1 - rate * decay) - firstScale * first[i]! / root;
  }
}
