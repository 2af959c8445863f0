/**
 * Memory of one training step: buffers on the backend that are taken and given back while a program
 * is recorded. Ops run in the order of recording, so a buffer may be handed on at once; only the
 * host must never write into one.
 */
import type { Backend } from "@/kernels/backend.ts";
import type { DType } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";

/** Smallest buffer. */
const BUFFER_BYTES_MIN = 1024;
/** Sizes between two powers of two: a batch of other length finds most of its buffers again. */
const STEPS = 4;

/** Bytes of the buffer that holds `sizeBytes`. */
function bufferBytes(sizeBytes: number): number {
  if (sizeBytes <= BUFFER_BYTES_MIN) return BUFFER_BYTES_MIN;
  const octave = 2 ** Math.floor(Math.log2(sizeBytes - 1));
  return octave + Math.ceil((sizeBytes - octave) * STEPS / octave) * octave / STEPS;
}

/** Backend memory without a type; `typed` gives it one. */
export interface Buffer {
  readonly tensor: Tensor;
}

export class BufferPool {
  readonly #backend: Backend;
  readonly #idle = new Map<number, Buffer[]>();
  #heldBytes = 0;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Bytes of all buffers, idle or not. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A buffer of at least `sizeBytes`, with any content. */
  take(sizeBytes: number): Buffer {
    const size = bufferBytes(sizeBytes);
    const idle = this.#idle.get(size)?.pop();
    if (idle) return idle;
    this.#heldBytes += size;
    return { tensor: this.#backend.allocate("u8", [size]) };
  }

  give(buffer: Buffer): void {
    const size = buffer.tensor.shape[0]!;
    const idle = this.#idle.get(size);
    if (idle) idle.push(buffer);
    else this.#idle.set(size, [buffer]);
  }

  /** Frees all idle buffers. */
  close(): void {
    for (const buffers of this.#idle.values()) {
      for (const { tensor } of buffers) this.#backend.free(tensor);
    }
    this.#idle.clear();
  }
}

/** The start of a buffer as a tensor. */
export function typed(buffer: Buffer, dtype: DType, shape: readonly number[]): Tensor {
  return { ...buffer.tensor, dtype, shape };
}
