/** Gradients of the norms; statistics are computed again from the input. */

interface Target {
  readonly values: Float32Array;
  readonly accumulate: boolean;
}

const put = (target: Target, at: number, value: number): void => {
  target.values[at] = (target.accumulate ? target.values[at]! : 0) + value;
};

interface NormGrad {
  readonly input: Float32Array;
  readonly weight: Float32Array;
  readonly epsilon: number;
  readonly outGrad: Float32Array;
  readonly inputGrad: Target | undefined;
  readonly weightGrad: Target | undefined;
}

/** See `TrainingOps.rmsNormGrad`. */
export function rmsNormGrad(args: NormGrad): void {
  const { input, weight, epsilon, outGrad, inputGrad, weightGrad } = args;
  const width = weight.length;
  const weightSums = new Float64Array(width);
  for (let start = 0; start < input.length; start += width) {
    let squares = 0;
    let dot = 0;
    for (let i = 0; i < width; i++) {
      squares += input[start + i]! ** 2;
      dot += outGrad[start + i]! * weight[i]! * input[start + i]!;
    }
    const inverse = 1 / Math.sqrt(squares / width + epsilon);
    const factor = dot * inverse ** 3 / width;
    for (let i = 0; i < width; i++) {
      const x = input[start + i]!;
      weightSums[i]! += outGrad[start + i]! * x * inverse;
      if (!inputGrad) continue;
      put(inputGrad, start + i, outGrad[start + i]! * weight[i]! * inverse - x * factor);
    }
  }
  if (weightGrad) weightSums.forEach((sum, i) => put(weightGrad, i, sum));
}

/** See `TrainingOps.layerNormGrad`. */
export function layerNormGrad(args: NormGrad & { readonly biasGrad: Target | undefined }): void {
  const { input, weight, epsilon, outGrad, inputGrad, weightGrad, biasGrad } = args;
  const width = weight.length;
  const weightSums = new Float64Array(width);
  const biasSums = new Float64Array(width);
  const normed = new Float64Array(width);
  for (let start = 0; start < input.length; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += input[start + i]!;
    const mean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (input[start + i]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / width + epsilon);
    let gradientMean = 0;
    let projection = 0;
    for (let i = 0; i < width; i++) {
      normed[i] = (input[start + i]! - mean) * inverse;
      const gradient = outGrad[start + i]! * weight[i]!;
      gradientMean += gradient / width;
      projection += gradient * normed[i]! / width;
      weightSums[i]! += outGrad[start + i]! * normed[i]!;
      biasSums[i]! += outGrad[start + i]!;
    }
    if (!inputGrad) continue;
    for (let i = 0; i < width; i++) {
      const gradient = outGrad[start + i]! * weight[i]! - gradientMean - normed[i]! * projection;
      put(inputGrad, start + i, gradient * inverse);
    }
  }
  if (weightGrad) weightSums.forEach((sum, i) => put(weightGrad, i, sum));
  if (biasGrad) biasSums.forEach((sum, i) => put(biasGrad, i, sum));
}
