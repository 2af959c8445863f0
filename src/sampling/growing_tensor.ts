/** Storage that is kept between steps and only ever grows: views of the size that a step needs. */
import type { Backend } from "@/kernels/backend.ts";
import { type DType, elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";

type Values = Float32Array | Int32Array | Uint8Array;

const ELEMENTS_MIN = 64;
/** Values that are compared with those of the last step: far fewer than a picture has. */
const COMPARED_MAX = 4096;

export class GrowingTensor {
  readonly #backend: Backend;
  readonly #dtype: DType;
  #held: Tensor | undefined;
  /** What the storage begins with; undefined when that is not known. */
  #written: Values | undefined;

  constructor(backend: Backend, dtype: DType) {
    this.#backend = backend;
    this.#dtype = dtype;
  }

  /** A view with undefined contents; valid until the next call. Only between flushes. */
  view(shape: readonly number[]): Tensor {
    this.#written = undefined;
    return this.#roomFor(shape);
  }

  #roomFor(shape: readonly number[]): Tensor {
    const size = elementCount(shape);
    if (this.#held === undefined || elementCount(this.#held.shape) < size) {
      this.close();
      this.#held = this.#backend.allocate(this.#dtype, [Math.max(ELEMENTS_MIN, 2 * size)]);
    }
    return { ...this.#held, shape };
  }

  /** A view that holds `values`, which ops only read. A GPU gets them when they are new. */
  write(
    values: Values,
    shape: readonly number[] = [values.length],
  ): Tensor {
    const view = this.#roomFor(shape);
    if (values.length === 0 || isSame(values, this.#written)) return view;
    this.#backend.write(view, values);
    this.#written = values.length <= COMPARED_MAX ? values.slice() : undefined;
    return view;
  }

  close(): void {
    if (this.#held) this.#backend.free(this.#held);
    this.#held = undefined;
    this.#written = undefined;
  }
}

function isSame(a: Values, b: Values | undefined): boolean {
  return a.length === b?.length && a.every((value, i) => value === b[i]);
}
