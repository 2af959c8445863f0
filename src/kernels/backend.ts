/**
 * What a compute backend offers. A backend owns storage, packed weights and the KV cache, and runs
 * recorded ops in order. It knows no model. Implementations: `reference/` (plain TypeScript, the
 * oracle), `wasm/` (SIMD kernels, threads).
 */
import type { DType } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { Ops } from "./ops.ts";

/**
 * How a weight matrix is stored. `f32`, `bf16`, `f16` compute in float32 on the stored values;
 * `q8` holds int8 with one bf16 scale per group of 32 and quantises activations to int8 per group.
 */
export type MatrixFormat = "f32" | "bf16" | "f16" | "q8";

/** A weight [experts, rows, columns] in the backend's own layout; y = x * W^T. */
export interface Matrix {
  readonly format: MatrixFormat;
  /** 1 for an ordinary matrix; more for stacked expert weights. */
  readonly experts: number;
  /** Output width. */
  readonly rows: number;
  /** Input width. */
  readonly columns: number;
  readonly storage: Storage;
}

/** Rows of a checkpoint tensor: little-endian values, row-major [rowCount, columns]. */
export interface FileRows {
  /** Default 0. */
  readonly expert?: number;
  readonly firstRow: number;
  readonly rowCount: number;
  readonly bytes: Uint8Array;
  readonly dtype: "F32" | "F16" | "BF16";
}

export type KvFormat = "f32" | "f16" | "q8";

/** Keys and values of past tokens, in pages; a slot is page * pageTokens + offset. */
export interface KvCache {
  readonly format: KvFormat;
  readonly layers: number;
  readonly pages: number;
  readonly pageTokens: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly storage: Storage;
}

/** Which kernels run, and why: shown by `doctor` and in the log. */
export interface BackendDescription {
  /** e.g. "relaxed-simd+threads". */
  readonly variant: string;
  readonly reason: string;
  readonly threads: number;
  /** Results are bit-equal inside one class: backend, variant, format version. */
  readonly numericClass: string;
}

export interface Backend {
  readonly name: "reference" | "wasm" | "webgpu";
  readonly description: BackendDescription;
  /** Recording ops; nothing is computed before `flush` is awaited. */
  readonly ops: Ops;
  /** Zero-filled. Throws OperatingError("unavailable") when memory is exhausted. */
  allocate(dtype: DType, shape: readonly number[]): Tensor;
  free(item: { readonly storage: Storage }): void;
  /** An unfilled matrix; every row must be packed before use. */
  createMatrix(
    options: { format: MatrixFormat; rows: number; columns: number; experts?: number },
  ): Matrix;
  /**
   * Converts `rowCount` rows of little-endian file values (row-major [rowCount, columns]) into the
   * matrix layout, from row `firstRow` (any value) of `expert`. Rows may arrive in any order; padding is zero.
   */
  packRows(matrix: Matrix, part: FileRows): Promise<void>;
  createKvCache(options: {
    format: KvFormat;
    layers: number;
    pages: number;
    pageTokens: number;
    kvHeads: number;
    headWidth: number;
  }): KvCache;
  /** Copies host values in at once (not recorded): never into data that unflushed ops read. */
  write(tensor: Tensor, values: Float32Array | Int32Array | Uint8Array): void;
  /** Copies values out; waits for recorded ops first. */
  read(tensor: Tensor): Promise<Float32Array | Int32Array | Uint8Array>;
  /**
   * Bytes of one page: keys and values of all layers in the backend's own layout, which is part of
   * its numeric class. Waits for recorded ops first.
   */
  readKvPage(cache: KvCache, page: number): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Puts back what `readKvPage` gave, at once (not recorded): never into a page that unflushed ops
   * use. Throws RangeError when the length is not that of a page.
   */
  writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void;
  /** Runs everything recorded so far, in order. */
  flush(): Promise<void>;
  /** Bytes held by live storages. */
  usedBytes(): number;
  close(): Promise<void>;
}
