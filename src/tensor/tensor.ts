/** Descriptors of data that a backend holds. They own nothing: the backend frees the storage. */
import { assert } from "@/assert.ts";
import { type DType, dtypeBytes, elementCount } from "./dtype.ts";

/** Storage of a backend; only the backend that made it looks inside. */
export interface Storage {
  readonly sizeBytes: number;
}

/** A dense row-major array inside a storage. The last axis is contiguous. */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly storage: Storage;
  /** Start inside the storage. */
  readonly byteOffset: number;
}

/** Length of the last axis. */
export function widthOf(tensor: Tensor): number {
  return tensor.shape.at(-1) ?? 1;
}

/** Product of all axes but the last. */
export function rowsOf(tensor: Tensor): number {
  let product = 1;
  for (let axis = 0; axis < tensor.shape.length - 1; axis++) product *= tensor.shape[axis]!;
  return product;
}

/** The same elements under another shape. */
export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  if (elementCount(shape) !== elementCount(tensor.shape)) {
    assert(false, `reshape [${tensor.shape}] to [${shape}]`);
  }
  return { ...tensor, shape };
}

/** Rows [first, first + count) as a view; all axes but the last count as rows. */
export function sliceRows(tensor: Tensor, first: number, count: number): Tensor {
  assert(
    first >= 0 && first + count <= rowsOf(tensor),
    `rows ${first}+${count} of ${rowsOf(tensor)}`,
  );
  const width = widthOf(tensor);
  const byteOffset = tensor.byteOffset + first * width * dtypeBytes[tensor.dtype];
  return { ...tensor, shape: [count, width], byteOffset };
}
