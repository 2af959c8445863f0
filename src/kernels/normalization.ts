/** What a pixel level becomes before the patch embedding: the same numbers in all backends. */
import { roundToBf16 } from "@/tensor/half.ts";

/** bf16((level / 255 - mean) / deviation) of the 256 levels of one channel, in float32 steps. */
export function normalizationTable(mean: number, deviation: number): Float32Array {
  const f32 = Math.fround;
  return Float32Array.from({ length: 256 }, (_, level) => {
    return roundToBf16(f32(f32(f32(level / 255) - f32(mean)) / f32(deviation)));
  });
}
