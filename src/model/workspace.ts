/**
 * Scratch memory of one program. Tensors are carved from one storage and reused between layers by
 * mark and release; ops run in order, so reuse is safe once the last reader is recorded. Training
 * passes a workspace that never reuses.
 */
import type { Backend } from "@/kernels/backend.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { assert } from "@/assert.ts";

const ALIGNMENT_BYTES = 64;

export interface Workspace {
  /** Uninitialised: the first op that names it must write it whole. */
  tensor(dtype: DType, shape: readonly number[]): Tensor;
  mark(): number;
  /** Frees everything carved since `mark`. */
  release(mark: number): void;
}

/** Carves from `base`; without a base it only measures the peak. */
export class ArenaWorkspace implements Workspace {
  readonly #base: Tensor | undefined;
  #usedBytes = 0;
  #peakBytes = 0;

  constructor(base: Tensor | undefined) {
    this.#base = base;
  }

  static allocate(backend: Backend, sizeBytes: number): ArenaWorkspace {
    return new ArenaWorkspace(backend.allocate("u8", [Math.max(sizeBytes, ALIGNMENT_BYTES)]));
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  tensor(dtype: DType, shape: readonly number[]): Tensor {
    const sizeBytes = elementCount(shape) * dtypeBytes[dtype];
    const offset = this.#usedBytes;
    this.#usedBytes += Math.ceil(sizeBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
    const base = this.#base;
    if (base === undefined) return { dtype, shape, storage: { sizeBytes: 0 }, byteOffset: offset };
    assert(this.#usedBytes <= elementCount(base.shape), `workspace needs ${this.#usedBytes} bytes`);
    return { dtype, shape, storage: base.storage, byteOffset: base.byteOffset + offset };
  }

  mark(): number {
    return this.#usedBytes;
  }

  release(mark: number): void {
    this.#usedBytes = mark;
  }
}
