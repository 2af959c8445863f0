/**
 * What a conformance case is, and the bench it runs on: inputs and outputs lie between guard
 * elements, so reading or writing outside a tensor shows, and unwritten elements stay poisoned.
 */
import { assert } from "@/assert.ts";
import type { Backend, KvCache, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import type { Ops } from "@/kernels/ops.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import { encodeFile } from "./naive.ts";

export type Values = Float32Array | Int32Array | Uint8Array;
export type Outputs = Readonly<Record<string, Values>>;

/** The right result, from formulas that share no code with any backend. */
export interface Expectation {
  /** Float64 values before the final rounding to float32, or integers. */
  readonly values: ArrayLike<number>;
  /** Allowed error of float32 arithmetic per element. Missing: equal after rounding to float32. */
  readonly bound?: Float64Array;
}

export interface KernelCase {
  readonly op: keyof Ops;
  readonly name: string;
  /** Rows that can run alone (segments for segmentAttention); missing when rows are not separable. */
  readonly rows?: number;
  /** Runs the op on all rows, or on the named ones only, and reads its outputs. */
  run(bench: Bench, rows?: readonly number[]): Promise<Outputs>;
  expected(): Readonly<Record<string, Expectation>>;
}

/** Unit roundoff of float32. */
export const UNIT = 2 ** -24;

/** A weight in plain form: [experts, rows, columns] of exact file values. */
export interface HostMatrix {
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** Elements before and after each tensor; odd on purpose, so views are not 16-byte aligned. */
const GUARD = 5;
const poison: Readonly<Record<DType, number>> = { f32: NaN, i32: -1234567, u8: 201 };

/** Uploads inputs to one backend, reads outputs, checks guards, frees everything. */
export class Bench {
  readonly #owned: { readonly storage: Storage }[] = [];
  readonly #guarded: Tensor[] = [];

  constructor(readonly backend: Backend) {}

  f32(values: ArrayLike<number>, shape: readonly number[]): Tensor {
    return this.#place("f32", shape, Float32Array.from(values));
  }

  i32(values: ArrayLike<number>, shape: readonly number[]): Tensor {
    return this.#place("i32", shape, Int32Array.from(values));
  }

  u8(values: ArrayLike<number>, shape: readonly number[]): Tensor {
    return this.#place("u8", shape, Uint8Array.from(values));
  }

  /** A poisoned output. */
  out(dtype: DType, shape: readonly number[]): Tensor {
    return this.#place(dtype, shape, undefined);
  }

  #place(dtype: DType, shape: readonly number[], values: Values | undefined): Tensor {
    const count = elementCount(shape);
    assert(!values || values.length === count, `${values?.length} values for [${shape}]`);
    const whole = this.backend.allocate(dtype, [count + 2 * GUARD]);
    this.#owned.push(whole);
    this.#guarded.push(whole);
    const filled = makeArray(dtype, count + 2 * GUARD).fill(poison[dtype]);
    if (values) filled.set(values, GUARD);
    this.backend.write(whole, filled);
    return { ...whole, shape, byteOffset: whole.byteOffset + GUARD * dtypeBytes[dtype] };
  }

  /** A packed weight; rows go in as two parts, the later part first. */
  async matrix(host: HostMatrix, format: MatrixFormat, file: FileFormat = "F32"): Promise<Matrix> {
    const { experts, rows, columns, values } = host;
    const matrix = this.backend.createMatrix({ format, experts, rows, columns });
    this.#owned.push(matrix);
    const cut = Math.floor(rows / 3);
    for (let expert = experts - 1; expert >= 0; expert--) {
      for (const [firstRow, end] of [[cut, rows], [0, cut]] as const) {
        const start = (expert * rows + firstRow) * columns;
        const part = values.subarray(start, start + (end - firstRow) * columns);
        await this.backend.packRows(matrix, {
          expert,
          firstRow,
          rowCount: end - firstRow,
          bytes: encodeFile(part, file),
          dtype: file,
        });
      }
    }
    return matrix;
  }

  kvCache(options: Parameters<Backend["createKvCache"]>[0]): KvCache {
    const cache = this.backend.createKvCache(options);
    this.#owned.push(cache);
    return cache;
  }

  /** Reads outputs by name. */
  async read(tensors: Readonly<Record<string, Tensor>>): Promise<Outputs> {
    // At once: a GPU takes long to answer, but answers many readers together.
    const entries = Object.entries(tensors).map(async ([name, tensor]) => {
      return [name, await this.backend.read(tensor)] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  /** Fails when an op wrote outside its tensors; then frees them. */
  async close(): Promise<void> {
    try {
      const read = this.#guarded.map((whole) => this.backend.read(whole));
      for (const [i, values] of (await Promise.all(read)).entries()) {
        const whole = this.#guarded[i]!;
        const guards = [...values.subarray(0, GUARD), ...values.subarray(-GUARD)];
        assert(
          guards.every((value) => Object.is(value, poison[whole.dtype])),
          `an op wrote outside its ${whole.dtype} tensor: guards are ${guards}`,
        );
      }
    } finally {
      for (const item of this.#owned) this.backend.free(item);
    }
  }
}

export type FileFormat = "F32" | "F16" | "BF16";

function makeArray(dtype: DType, length: number): Values {
  if (dtype === "f32") return new Float32Array(length);
  return dtype === "i32" ? new Int32Array(length) : new Uint8Array(length);
}

/** Rows `rows` of a row-major array, or the array itself. */
export function pickRows<T extends Values>(
  values: T,
  width: number,
  rows: readonly number[] | undefined,
): T {
  if (!rows) return values;
  const picked = new (values.constructor as new (length: number) => T)(rows.length * width);
  rows.forEach((row, i) => picked.set(values.subarray(row * width, (row + 1) * width), i * width));
  return picked;
}

/** Runs one case on one backend. */
export async function runCase(
  backend: Backend,
  kernelCase: KernelCase,
  rows?: readonly number[],
): Promise<Outputs> {
  const bench = new Bench(backend);
  try {
    return await kernelCase.run(bench, rows);
  } finally {
    await bench.close();
  }
}
