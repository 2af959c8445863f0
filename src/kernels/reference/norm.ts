/** Norms over the last axis; statistics in float64, every element rounded once. */

/** See `Ops.rmsNorm`. */
export function rmsNorm(
  args: { input: Float32Array; weight: Float32Array; epsilon: number; out: Float32Array },
): void {
  const { input, weight, epsilon, out } = args;
  const width = weight.length;
  for (let start = 0; start < out.length; start += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += input[start + i]! ** 2;
    const root = Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) out[start + i] = input[start + i]! / root * weight[i]!;
  }
}

/** See `Ops.layerNorm`; the variance is the biased one, from centred values. */
export function layerNorm(
  args: {
    input: Float32Array;
    weight: Float32Array;
    bias: Float32Array;
    epsilon: number;
    out: Float32Array;
  },
): void {
  const { input, weight, bias, epsilon, out } = args;
  const width = weight.length;
  for (let start = 0; start < out.length; start += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += input[start + i]!;
    const mean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (input[start + i]! - mean) ** 2;
    const root = Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) {
      out[start + i] = (input[start + i]! - mean) / root * weight[i]! + bias[i]!;
    }
  }
}
