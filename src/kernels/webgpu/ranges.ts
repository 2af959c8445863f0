/** Where tensors, weights and caches lie on the device, and the numbers that kernels need of them. */
import { assert } from "@/assert.ts";
import { type DType, dtypeBytes } from "@/tensor/dtype.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { KvCache, Matrix } from "../backend.ts";
import { GROUP_COLUMNS, panelBytes, panelCount } from "../matrix_layout.ts";
import { sizeOf } from "../shape.ts";
import { headPageWords, headRowWords } from "./shaders/kv_pages.ts";
import { kvStorage, type PanelBlock, type Range, tensorStorage } from "./storage.ts";

/** The bytes of a tensor of the expected element type. */
export function rangeOf(tensor: Tensor, dtype: DType = "f32"): Range {
  assert(tensor.dtype === dtype, `expected ${dtype}, got ${tensor.dtype} [${tensor.shape}]`);
  const { block } = tensorStorage(tensor);
  const sizeBytes = sizeOf(tensor) * dtypeBytes[dtype];
  return { block, byteOffset: tensor.byteOffset, sizeBytes };
}

export function wholeBlock(block: PanelBlock): Range {
  return { block, byteOffset: 0, sizeBytes: block.sizeBytes };
}

export function groupsOf(columns: number): number {
  return Math.ceil(columns / GROUP_COLUMNS);
}

/** Numbers of a weight that all products share, but for the rows and the block. */
export function weightNumbers(matrix: Matrix) {
  return {
    columns: matrix.columns,
    groups: groupsOf(matrix.columns),
    panelVectors: panelBytes(matrix) / 16,
    width: matrix.rows,
    experts: matrix.experts,
    expertPanels: panelCount(matrix),
  };
}

/** One layer of a cache, and its numbers. */
export function cacheLayer(cache: KvCache, layer: number) {
  assert(layer >= 0 && layer < cache.layers, `layer ${layer} of ${cache.layers}`);
  const block = kvStorage(cache).layers[layer]!;
  const { kvHeads, headWidth, pageTokens, format } = cache;
  return {
    range: { block, byteOffset: 0, sizeBytes: block.sizeBytes },
    numbers: {
      kvHeads,
      headWidth,
      pageTokens,
      headWords: headPageWords(format, cache),
      rowWords: headRowWords(format, headWidth),
    },
  };
}

/** Bytes of one page of one layer. */
export function kvPageBytes(cache: Omit<KvCache, "storage" | "pages">): number {
  return 4 * cache.kvHeads * headPageWords(cache.format, cache);
}
