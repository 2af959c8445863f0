/** Gradients and statistics of the expert gate. */

function softmax(logits: Float32Array): { probabilities: Float64Array; logSum: number } {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const probabilities = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  let total = 0;
  for (const term of probabilities) total += term;
  for (let e = 0; e < probabilities.length; e++) probabilities[e]! /= total;
  return { probabilities, logSum: largest + Math.log(total) };
}

/** See `TrainingOps.gateTopKGrad`. */
export function gateTopKGrad(
  args: {
    logits: Float32Array;
    experts: number;
    k: number;
    expertIndex: Int32Array;
    expertWeight: Float32Array;
    normalize: boolean;
    weightGrad: Float32Array;
    accumulate: boolean;
    logitsGrad: Float32Array;
  },
): void {
  const { logits, experts, k, expertIndex, expertWeight, weightGrad, logitsGrad } = args;
  for (let r = 0; r < logits.length / experts; r++) {
    const row = logitsGrad.subarray(r * experts, (r + 1) * experts);
    const sums = new Float64Array(experts);
    let mean = 0;
    for (let i = r * k; i < (r + 1) * k; i++) mean += expertWeight[i]! * weightGrad[i]!;
    for (let i = r * k; i < (r + 1) * k; i++) {
      sums[expertIndex[i]!] = expertWeight[i]! * (weightGrad[i]! - (args.normalize ? mean : 0));
    }
    if (!args.normalize) {
      // The chosen probabilities share their denominator with all experts.
      const { probabilities } = softmax(logits.subarray(r * experts, (r + 1) * experts));
      for (let e = 0; e < experts; e++) sums[e]! -= probabilities[e]! * mean;
    }
    for (let e = 0; e < experts; e++) row[e] = (args.accumulate ? row[e]! : 0) + sums[e]!;
  }
}

/** See `TrainingOps.routerStatistics`. */
export function routerStatistics(
  args: {
    logits: Float32Array;
    experts: number;
    k: number;
    expertIndex: Int32Array;
    rowWeight: Float32Array;
    statistics: Float32Array;
  },
): void {
  const { logits, experts, k, expertIndex, rowWeight, statistics } = args;
  rowWeight.forEach((weight, r) => {
    if (weight === 0) return;
    for (let i = r * k; i < (r + 1) * k; i++) statistics[expertIndex[i]!]! += 1;
    const { probabilities } = softmax(logits.subarray(r * experts, (r + 1) * experts));
    probabilities.forEach((probability, e) => statistics[experts + e]! += probability);
  });
}

/** See `TrainingOps.routerLossGrad`. */
export function routerLossGrad(
  args: {
    logits: Float32Array;
    experts: number;
    rowWeight: Float32Array;
    expertScale: Float32Array;
    zScale: number;
    accumulate: boolean;
    logitsGrad: Float32Array;
  },
): void {
  const { logits, experts, rowWeight, expertScale, zScale, logitsGrad } = args;
  rowWeight.forEach((weight, r) => {
    const row = logitsGrad.subarray(r * experts, (r + 1) * experts);
    const { probabilities, logSum } = softmax(logits.subarray(r * experts, (r + 1) * experts));
    let mean = 0;
    for (let e = 0; e < experts; e++) mean += probabilities[e]! * expertScale[e]!;
    for (let e = 0; e < experts; e++) {
      const slope = probabilities[e]! * (expertScale[e]! - mean + 2 * zScale * logSum);
      row[e] = (args.accumulate ? row[e]! : 0) + weight * slope;
    }
  });
}
