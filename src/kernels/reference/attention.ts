/** Attention in its textbook form: scores, softmax, weighted sum, all in float64, rounded once. */
import { assert } from "@/assert.ts";
import type { KvCache } from "../backend.ts";
import { GROUP_COLUMNS } from "../matrix_layout.ts";
import { firstHeadRow } from "./kv_cache.ts";
import { quantizeActivationGroup, quantizeKeyGroup } from "./quantize.ts";
import { kvStorage } from "./storage.ts";

/** Rows that one query head attends to: the i-th is code row `rows[i]` of `headWidth` values. */
interface Keys {
  readonly rows: Int32Array;
  readonly count: number;
  readonly headWidth: number;
  readonly keyCodes: Float32Array;
  readonly valueCodes: Float32Array;
  /** Missing: all 1. */
  readonly keyScales?: Float32Array;
  readonly valueScales?: Float32Array;
}

/** out [headWidth] = softmax(scale * query * keys^T) * values; zero when there are no keys. */
function attendHead(
  args: {
    query: Float32Array;
    keys: Keys;
    scale: number;
    rounded?: boolean;
    out: Float32Array;
  },
): void {
  const { query, keys, scale, rounded = false, out } = args;
  const { rows, count, headWidth } = keys;
  const weights = new Float64Array(count);
  let largest = -Infinity;
  for (let i = 0; i < count; i++) {
    const from = rows[i]! * headWidth;
    let dot = 0;
    for (let d = 0; d < headWidth; d++) dot += query[d]! * keys.keyCodes[from + d]!;
    weights[i] = dot * (keys.keyScales ? keys.keyScales[rows[i]!]! : 1) * scale;
    largest = Math.max(largest, weights[i]!);
  }
  let total = 0;
  for (let i = 0; i < count; i++) {
    weights[i] = Math.exp(weights[i]! - largest);
    total += weights[i]!;
  }
  for (let i = 0; i < count; i++) weights[i]! /= total;
  if (rounded) roundProbabilities(weights);
  const sums = new Float64Array(headWidth);
  for (let i = 0; i < count; i++) {
    const weight = weights[i]! * (keys.valueScales ? keys.valueScales[rows[i]!]! : 1);
    const from = rows[i]! * headWidth;
    for (let d = 0; d < headWidth; d++) sums[d]! += weight * keys.valueCodes[from + d]!;
  }
  out.set(sums);
}

/** See `Ops.attention`. A row of length 0 attends to nothing and gives zeros. */
export function attention(
  args: {
    query: Float32Array;
    cache: KvCache;
    layer: number;
    rowSequence: Int32Array;
    rowLength: Int32Array;
    pageTable: Int32Array;
    pagesPerSequence: number;
    heads: number;
    scale: number;
    out: Float32Array;
  },
): void {
  const { query, cache, layer, rowSequence, rowLength, heads, scale, out } = args;
  const { headWidth, kvHeads } = cache;
  const { keyCodes, valueCodes, keyScales, valueScales } = kvStorage(cache);
  rowSequence.forEach((sequence, r) => {
    const count = rowLength[r]!;
    const first = headRowsOf({ ...args, sequence, count, cache, layer });
    const rows = new Int32Array(count);
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      for (let i = 0; i < count; i++) rows[i] = first[i]! + kvHead;
      const from = (r * heads + head) * headWidth;
      attendHead({
        query: query.subarray(from, from + headWidth),
        keys: { rows, count, headWidth, keyCodes, valueCodes, keyScales, valueScales },
        scale,
        out: out.subarray(from, from + headWidth),
      });
    }
  });
}

/** Head row of kv head 0 for the first `count` tokens of a sequence. */
function headRowsOf(
  args: {
    cache: KvCache;
    layer: number;
    pageTable: Int32Array;
    pagesPerSequence: number;
    sequence: number;
    count: number;
  },
): Int32Array {
  const { cache, layer, pageTable, pagesPerSequence, sequence, count } = args;
  const { pageTokens, pages } = cache;
  assert(
    count >= 0 && count <= pagesPerSequence * pageTokens,
    `${count} tokens in ${pagesPerSequence} pages of ${pageTokens}`,
  );
  return Int32Array.from({ length: count }, (_, token) => {
    const page = pageTable[sequence * pagesPerSequence + Math.floor(token / pageTokens)];
    assert(page !== undefined && page >= 0 && page < pages, `page ${page} of ${pages}`);
    return firstHeadRow(cache, layer, page * pageTokens + token % pageTokens);
  });
}

interface SegmentOperands {
  query: Float32Array;
  key: Float32Array;
  value: Float32Array;
  segmentRows: number;
  heads: number;
  headWidth: number;
  scale: number;
  rounded: boolean;
  out: Float32Array;
}

/** See `Ops.segmentAttention`. */
export function segmentAttention(args: SegmentOperands): void {
  const { segmentRows, heads, headWidth, scale, rounded, out } = args;
  const { query, key, value } = rounded ? roundedRowsOf(args) : args;
  const rowCount = out.length / (heads * headWidth);
  const rows = new Int32Array(segmentRows);
  for (let r = 0; r < rowCount; r++) {
    const segmentStart = r - r % segmentRows;
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < segmentRows; i++) rows[i] = (segmentStart + i) * heads + head;
      const from = (r * heads + head) * headWidth;
      attendHead({
        query: query.subarray(from, from + headWidth),
        keys: { rows, count: segmentRows, headWidth, keyCodes: key, valueCodes: value },
        scale,
        rounded,
        out: out.subarray(from, from + headWidth),
      });
    }
  }
}

/** What products with quantised weights would see: keys and values as weights. */
function roundedRowsOf(
  { query, key, value, segmentRows, heads, headWidth }: SegmentOperands,
): Pick<SegmentOperands, "query" | "key" | "value"> {
  return {
    query: roundedColumns(query, headWidth, quantizeActivationGroup),
    key: roundedColumns(key, headWidth, quantizeKeyGroup),
    value: roundedRows(value, heads * headWidth, segmentRows),
  };
}

/** Head rows [R, width] as they come back from codes and scales of groups of their columns. */
function roundedColumns(
  values: Float32Array,
  width: number,
  quantize: (values: Float32Array, codes: Int8Array) => number,
): Float32Array {
  const rounded = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += width) {
    for (let first = row; first < row + width; first += GROUP_COLUMNS) {
      const group = values.subarray(first, Math.min(first + GROUP_COLUMNS, row + width));
      const codes = new Int8Array(group.length);
      const scale = quantize(group, codes);
      codes.forEach((code, i) => rounded[first + i] = code * scale);
    }
  }
  return rounded;
}

/** Values [R, width] as they come back from groups of 32 rows of a segment. */
function roundedRows(values: Float32Array, width: number, segmentRows: number): Float32Array {
  const rounded = new Float32Array(values.length);
  const rows = values.length / width;
  for (let first = 0; first < rows;) {
    const segmentEnd = first - first % segmentRows + segmentRows;
    const end = Math.min(first - first % segmentRows % GROUP_COLUMNS + GROUP_COLUMNS, segmentEnd);
    const codes = new Int8Array(end - first);
    for (let column = 0; column < width; column++) {
      const group = Float32Array.from(codes, (_, i) => values[(first + i) * width + column]!);
      const scale = quantizeKeyGroup(group, codes);
      codes.forEach((code, i) => rounded[(first + i) * width + column] = code * scale);
    }
    first = end;
  }
  return rounded;
}

/** Groups of 32 probabilities through int8, in place. */
function roundProbabilities(weights: Float64Array): void {
  for (let first = 0; first < weights.length; first += GROUP_COLUMNS) {
    const group = weights.subarray(first, first + GROUP_COLUMNS);
    const codes = new Int8Array(group.length);
    const scale = quantizeActivationGroup(Float32Array.from(group), codes);
    codes.forEach((code, i) => group[i] = code * scale);
  }
}
