/**
 * What a compute backend offers. A backend owns storage, packed weights and the KV cache, and runs
 * recorded ops in order. It knows no model. Implementations: `reference/` (plain TypeScript, the
 * oracle), `wasm/` (SIMD kernels, threads), `webgpu/` (WGSL kernels on a GPU).
 */
import type { OperatingError } from "@/errors.ts";
import type { DType } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { Ops } from "./ops.ts";
import type { TrainingOps } from "./training_ops.ts";

/**
 * How a weight matrix is stored. `f32`, `bf16`, `f16` compute in float32 on the stored values.
 *
 * In `q8` and `q4`, 32 columns of a row share a bfloat16 scale s of either sign, and a code c means
 * (c - z) * s: z = 64 and c in 0..127 in `q8`, z = 8 and c in 0..15 in `q4`; 8.5 and 4.5 bits per
 * weight. The scale minimises the squared error (see `reference/quantize.ts`). Activations are
 * quantised to int8 in the same groups with a float32 scale, largest magnitude / 127; sums over a
 * group are integers, so all backends have the same. Seven bits of weight and eight of activation
 * measured better than the reverse (KL 1.2 against 1.6 times that of int8 per row), and the
 * seven-bit operand is what relaxed SIMD multiplies portably.
 */
export type MatrixFormat = "f32" | "bf16" | "f16" | "q8" | "q4";

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

/** Whole panels of one expert in the packed layout of `matrix_layout.ts`. */
export interface PackedPanels {
  /** Default 0. */
  readonly expert?: number;
  readonly firstPanel: number;
  /** A multiple of `panelBytes()`. */
  readonly bytes: Uint8Array;
}

/** `f16` holds finite values only: beyond 65504 it saturates. `q8` has one scale per head row. */
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
  /**
   * How many programs with reads behind them are worth having on their way at a time: more than one
   * where results take long to arrive. Host values that `write` brings are then seen by programs
   * flushed later only. Missing: one.
   */
  readonly programsInFlight?: number;
  /** Why nothing will run here any more, as when a GPU is lost; missing while all is well. */
  readonly lost?: OperatingError | undefined;
  /** Recording ops; nothing is computed before `flush` is awaited. */
  readonly ops: Ops;
  /** Recording the ops of training; missing where the backend was opened without them. */
  readonly training?: TrainingOps;
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
  /** A copy of packed panels, to be stored; all rows in them must have been packed. */
  readPanels(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): Promise<Uint8Array<ArrayBuffer>>;
  /** Copies stored panels in: `packRows` without its arithmetic. Not recorded. */
  writePanels(matrix: Matrix, part: PackedPanels): void;
  createKvCache(options: {
    format: KvFormat;
    layers: number;
    pages: number;
    pageTokens: number;
    kvHeads: number;
    headWidth: number;
  }): KvCache;
  /** Most pages that one cache of this shape can have; missing: only memory is a bound. */
  kvPagesMax?(shape: Omit<KvCache, "storage" | "pages">): number;
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
  /**
   * Runs everything recorded so far, in order. A backend of another device may resolve when the
   * device has the program; what it computes is then waited for by `read`.
   *
   * `isShort`: the caller does not mind to be held up itself. A backend whose only thread is asleep
   * then computes on the calling one: no thread has to be woken, nor wait for a core, twice.
   */
  flush(options?: { readonly isShort?: boolean }): Promise<void>;
  /**
   * Whether `viewHere` may be called now: the calling thread can compute all that is recorded, and
   * nothing recorded earlier still runs. Absent: never.
   */
  readonly isHere?: boolean;
  /**
   * Runs everything recorded so far before it returns, on the calling thread, and shows a tensor's
   * values where they lie: until anything else is recorded, written or allocated.
   */
  viewHere?(tensor: Tensor): Float32Array | Int32Array | Uint8Array;
  /**
   * Records what `record` records. Later calls of the same owner with the same key may record the
   * same again without calling it and return what it returned: the key says all that decides what is
   * recorded, except that storages still live. Absent: there is nothing to gain.
   */
  repeat?<T>(of: { owner: object; key: string }, record: () => Promise<T>): Promise<T>;
  /** Bytes held by live storages. */
  usedBytes(): number;
  close(): Promise<void>;
}
