/** Element types and their sizes. Conversions live in `half.ts`. */

/** Element types of tensors that programs compute with. */
export type DType = "f32" | "i32" | "u8";

/** Element types found in checkpoint files. */
export type FileDType = "F32" | "F16" | "BF16" | "I32" | "I64" | "U8";

/** Bytes of one element. */
export const dtypeBytes: Readonly<Record<DType, number>> = { f32: 4, i32: 4, u8: 1 };

/** Bytes of one element in a file. */
export const fileDTypeBytes: Readonly<Record<FileDType, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  I32: 4,
  I64: 8,
  U8: 1,
};

/** Number of elements of a shape (1 for a scalar). */
export function elementCount(shape: readonly number[]): number {
  let product = 1;
  for (const size of shape) product *= size;
  return product;
}
