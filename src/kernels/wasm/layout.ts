/**
 * Storages of the WASM backend, the numbers of formats in records, and the byte layout of KV caches
 * (kernels' side: `kernels-rs/compute/src/kv.rs`). Weights: `matrix_layout.ts`, one folder up.
 */
import { assert } from "@/assert.ts";
import type { Storage } from "@/tensor/tensor.ts";
import type { KvCache, KvFormat, MatrixFormat } from "../backend.ts";
import { GROUP_COLUMNS, PANEL_ROWS, panelBytes } from "../matrix_layout.ts";

/** Numbers of the formats in records. */
export const matrixFormatNumber: Readonly<Record<MatrixFormat, number>> = {
  f32: 0,
  bf16: 1,
  f16: 2,
  q8: 3,
  q4: 4,
};
export const fileTypeNumber = { F32: 0, BF16: 1, F16: 2 } as const;
export const kvFormatNumber: Readonly<Record<KvFormat, number>> = { f32: 0, f16: 1, q8: 2 };

/** A range of the arena. `address` is meaningless once freed. */
export class WasmStorage implements Storage {
  readonly owner: object;
  readonly sizeBytes: number;
  readonly address: number;
  freed = false;

  constructor(options: { owner: object; sizeBytes: number; address: number }) {
    this.owner = options.owner;
    this.sizeBytes = options.sizeBytes;
    this.address = options.address;
  }
}

/** The storage, after checking that it is alive and belongs to `owner`. */
export function storageOf(item: { readonly storage: Storage }, owner: object): WasmStorage {
  const { storage } = item;
  assert(storage instanceof WasmStorage && storage.owner === owner, "item of another backend");
  assert(!storage.freed, "use of a freed storage");
  return storage;
}

type KvShape = Omit<KvCache, "storage">;

const roundUp = (count: number, step: number) => Math.ceil(count / step) * step;

/** Sizes and offsets of one kv head of one page, and of a whole layer. */
export function kvBytes(
  shape: KvShape,
): { valueOffset: number; scaleOffset: number; headBytes: number; layerBytes: number } {
  const elementBytes = { f32: 4, f16: 2, q8: 1 }[shape.format];
  // Sixteen neighbours are read together.
  const tokens = roundUp(shape.pageTokens, 16);
  const width = roundUp(shape.headWidth, 16);
  const valueOffset = shape.headWidth * tokens * elementBytes;
  const scaleOffset = valueOffset + shape.pageTokens * width * elementBytes;
  const scaleBytes = shape.format === "q8" ? 2 * tokens * 4 : 0;
  const headBytes = scaleOffset + scaleBytes;
  return {
    valueOffset,
    scaleOffset,
    headBytes,
    layerBytes: headBytes * shape.kvHeads * shape.pages,
  };
}

/** Where one page lies, from the cache's start: as many bytes in every layer. */
export function kvPageParts(
  cache: KvShape,
  page: number,
): { offsets: readonly number[]; partBytes: number } {
  assert(page >= 0 && page < cache.pages, `page ${page} of ${cache.pages}`);
  const { headBytes, layerBytes } = kvBytes(cache);
  const partBytes = headBytes * cache.kvHeads;
  const offsets = Array.from(
    { length: cache.layers },
    (_, layer) => layer * layerBytes + page * partBytes,
  );
  return { offsets, partBytes };
}

/** Bytes of a group of quantised activations, see `ActivationGroup` in `quantize.rs`. */
export const ACTIVATION_GROUP_BYTES = 44;

/** Tokens of one chunk of keys, and lines (heads of rows) that pass over it together. */
const CHUNK_TOKENS = 128;
const LINES_MAX = 128;

/** Float32 values of a chunk in panels, see `attention/tile.rs`. */
export function panelFloats(headWidth: number): number {
  const roundedBytes = panelBytes({ format: "q8", columns: headWidth }) / PANEL_ROWS;
  const keyFloats = CHUNK_TOKENS * Math.max(headWidth, roundedBytes / 4);
  const valueFloats = roundUp(headWidth, 4) * (CHUNK_TOKENS + 4);
  return keyFloats + valueFloats + 2 * CHUNK_TOKENS;
}

/** Working memory of one thread that holds `chunks` chunks and the most lines. */
export function attentionFloats(options: { headWidth: number; chunks: number }): number {
  const { headWidth, chunks } = options;
  const roundedBytes = Math.ceil(headWidth / GROUP_COLUMNS) * ACTIVATION_GROUP_BYTES;
  const queryFloats = Math.max(headWidth, roundedBytes / 4);
  const lineFloats = queryFloats + roundUp(headWidth, 4) + 2;
  return chunks * panelFloats(headWidth) + LINES_MAX * lineFloats;
}

/** Chunks of a segment of this many rows. */
export function segmentChunks(segmentRows: number): number {
  return Math.ceil(segmentRows / CHUNK_TOKENS);
}
