/**
 * Storages of the reference backend and the typed views into them. Everything is a plain typed
 * array in row-major order; values keep the precision their format would give them.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { KvCache, Matrix } from "../backend.ts";

/** Bytes of tensors. */
export class HostStorage implements Storage {
  readonly sizeBytes: number;
  readonly buffer: ArrayBuffer;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.buffer = allocateOrRefuse(sizeBytes, () => new ArrayBuffer(sizeBytes));
  }
}

/** A weight: float values already rounded to the format, or codes less z with one scale per group. */
export class MatrixStorage implements Storage {
  readonly sizeBytes: number;
  /** [experts * rows, columns]; empty when quantised. */
  readonly values: Float32Array;
  /** [experts * rows, columns]; empty unless quantised. */
  readonly codes: Int8Array;
  /** [experts * rows, ceil(columns / 32)]; empty unless quantised. */
  readonly scales: Float32Array;

  constructor(sizes: { values: number; codes: number; scales: number }) {
    this.sizeBytes = 4 * sizes.values + sizes.codes + 4 * sizes.scales;
    this.values = allocateOrRefuse(this.sizeBytes, () => new Float32Array(sizes.values));
    this.codes = allocateOrRefuse(this.sizeBytes, () => new Int8Array(sizes.codes));
    this.scales = allocateOrRefuse(this.sizeBytes, () => new Float32Array(sizes.scales));
  }
}

/**
 * Keys and values of past tokens: codes [layers, pages * pageTokens, kvHeads, headWidth] and one
 * scale per head row (1 unless the format is q8); an element is code * scale.
 */
export class KvStorage implements Storage {
  readonly sizeBytes: number;
  readonly keyCodes: Float32Array;
  readonly valueCodes: Float32Array;
  readonly keyScales: Float32Array;
  readonly valueScales: Float32Array;

  constructor(headRows: number, headWidth: number) {
    this.sizeBytes = 8 * headRows * (headWidth + 1);
    const allocate = (length: number) =>
      allocateOrRefuse(this.sizeBytes, () => new Float32Array(length));
    this.keyCodes = allocate(headRows * headWidth);
    this.valueCodes = allocate(headRows * headWidth);
    this.keyScales = allocate(headRows).fill(1);
    this.valueScales = allocate(headRows).fill(1);
  }
}

function allocateOrRefuse<T>(sizeBytes: number, allocate: () => T): T {
  try {
    return allocate();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new OperatingError("unavailable", `Cannot allocate ${sizeBytes} bytes: out of memory`, {
      cause,
    });
  }
}

function bufferOf(tensor: Tensor): ArrayBuffer {
  assert(tensor.storage instanceof HostStorage, "the tensor belongs to another backend");
  return tensor.storage.buffer;
}

export function f32View(tensor: Tensor): Float32Array {
  assert(tensor.dtype === "f32", `expected f32, got ${tensor.dtype} [${tensor.shape}]`);
  return new Float32Array(bufferOf(tensor), tensor.byteOffset, elementCount(tensor.shape));
}

export function i32View(tensor: Tensor): Int32Array {
  assert(tensor.dtype === "i32", `expected i32, got ${tensor.dtype} [${tensor.shape}]`);
  return new Int32Array(bufferOf(tensor), tensor.byteOffset, elementCount(tensor.shape));
}

export function u8View(tensor: Tensor): Uint8Array {
  assert(tensor.dtype === "u8", `expected u8, got ${tensor.dtype} [${tensor.shape}]`);
  return new Uint8Array(bufferOf(tensor), tensor.byteOffset, elementCount(tensor.shape));
}

export function viewOf(tensor: Tensor): Float32Array | Int32Array | Uint8Array {
  if (tensor.dtype === "f32") return f32View(tensor);
  return tensor.dtype === "i32" ? i32View(tensor) : u8View(tensor);
}

export function matrixStorage(matrix: Matrix): MatrixStorage {
  assert(matrix.storage instanceof MatrixStorage, "the matrix belongs to another backend");
  return matrix.storage;
}

export function kvStorage(cache: KvCache): KvStorage {
  assert(cache.storage instanceof KvStorage, "the KV cache belongs to another backend");
  return cache.storage;
}
