/** Storage that is kept between steps and only ever grows: views of the size that a step needs. */
import type { Backend } from "@/kernels/backend.ts";
import { type DType, elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";

const ELEMENTS_MIN = 64;

export class GrowingTensor {
  readonly #backend: Backend;
  readonly #dtype: DType;
  #held: Tensor | undefined;

  constructor(backend: Backend, dtype: DType) {
    this.#backend = backend;
    this.#dtype = dtype;
  }

  /** A view with undefined contents; valid until the next call. Only between flushes. */
  view(shape: readonly number[]): Tensor {
    const size = elementCount(shape);
    if (this.#held === undefined || elementCount(this.#held.shape) < size) {
      this.close();
      this.#held = this.#backend.allocate(this.#dtype, [Math.max(ELEMENTS_MIN, 2 * size)]);
    }
    return { ...this.#held, shape };
  }

  /** A view that holds `values`. */
  write(
    values: Float32Array | Int32Array | Uint8Array,
    shape: readonly number[] = [values.length],
  ): Tensor {
    const view = this.view(shape);
    if (values.length > 0) this.#backend.write(view, values);
    return view;
  }

  close(): void {
    if (this.#held) this.#backend.free(this.#held);
    this.#held = undefined;
  }
}
