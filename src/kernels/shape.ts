/**
 * Shape checks of the ops: a wrong shape is a programmer's error, found when the op is recorded.
 * Messages are only written when needed: a decode step checks some three thousand shapes.
 */
import { assert } from "@/assert.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";

/** Elements of a tensor. */
export function sizeOf(tensor: Tensor): number {
  return rowsOf(tensor) * widthOf(tensor);
}

/** Checks the shape [rows, width], leading axes taken together. */
export function expectShape(name: string, tensor: Tensor, [rows, width]: [number, number]): void {
  if (rowsOf(tensor) === rows && widthOf(tensor) === width) return;
  assert(false, `${name} is [${tensor.shape}], expected [${rows}, ${width}]`);
}

export function expectSize(name: string, tensor: Tensor, size: number): void {
  if (sizeOf(tensor) === size) return;
  assert(false, `${name} is [${tensor.shape}], expected ${size} elements`);
}
