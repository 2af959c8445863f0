/** The paged KV cache: creation, and storing rows in its format. Reading is attention's work. */
import { assert } from "@/assert.ts";
import { f16ToF32, f32ToF16 } from "@/tensor/half.ts";
import type { KvCache, KvFormat } from "../backend.ts";
import { quantizeActivationGroup } from "./quantize.ts";
import { KvStorage, kvStorage } from "./storage.ts";

/** Largest finite half-precision number. */
const HALF_MAX = 65504;

/** A zero cache. */
export function createKvCache(shape: Omit<KvCache, "storage">): KvCache {
  const headRows = shape.layers * shape.pages * shape.pageTokens * shape.kvHeads;
  return { ...shape, storage: new KvStorage(headRows, shape.headWidth) };
}

/** Index of the head row (slot, kv head 0) of a layer. */
export function firstHeadRow(cache: KvCache, layer: number, slot: number): number {
  return (layer * cache.pages * cache.pageTokens + slot) * cache.kvHeads;
}

/** The typed arrays' parts that belong to one page, layer by layer. */
function* pageParts(cache: KvCache, page: number): Generator<Float32Array> {
  const { layers, pages, pageTokens, kvHeads, headWidth } = cache;
  assert(page >= 0 && page < pages, `page ${page} of ${pages}`);
  const { keyCodes, valueCodes, keyScales, valueScales } = kvStorage(cache);
  for (let layer = 0; layer < layers; layer++) {
    const from = firstHeadRow(cache, layer, page * pageTokens);
    const to = from + pageTokens * kvHeads;
    for (const codes of [keyCodes, valueCodes]) {
      yield codes.subarray(from * headWidth, to * headWidth);
    }
    for (const scales of [keyScales, valueScales]) yield scales.subarray(from, to);
  }
}

/** See `Backend.readKvPage`. */
export function readKvPage(cache: KvCache, page: number): Uint8Array<ArrayBuffer> {
  const parts = [...pageParts(cache, page)];
  const values = new Float32Array(parts.reduce((total, part) => total + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    values.set(part, offset);
    offset += part.length;
  }
  return new Uint8Array(values.buffer);
}

/** See `Backend.writeKvPage`. */
export function writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void {
  const parts = [...pageParts(cache, page)];
  const pageBytes = 4 * parts.reduce((total, part) => total + part.length, 0);
  checkPageLength(bytes, pageBytes);
  const values = new Float32Array(bytes.slice().buffer);
  let offset = 0;
  for (const part of parts) {
    part.set(values.subarray(offset, offset + part.length));
    offset += part.length;
  }
}

function checkPageLength(bytes: Uint8Array, pageBytes: number): void {
  if (bytes.length === pageBytes) return;
  throw new RangeError(`Cannot restore a KV page of ${bytes.length} bytes: it has ${pageBytes}`);
}

/** See `Ops.writeKv`. */
export function writeKv(
  args: {
    cache: KvCache;
    layer: number;
    key: Float32Array;
    value: Float32Array;
    slot: Int32Array;
  },
): void {
  const { cache, layer, key, value, slot } = args;
  const { headWidth, kvHeads, format } = cache;
  const storage = kvStorage(cache);
  slot.forEach((place, r) => {
    if (place < 0) return;
    assert(place < cache.pages * cache.pageTokens, `slot ${place} is outside the cache`);
    for (let head = 0; head < kvHeads; head++) {
      const from = (r * kvHeads + head) * headWidth;
      const headRow = firstHeadRow(cache, layer, place) + head;
      const to = headRow * headWidth;
      storage.keyScales[headRow] = storeHeadRow(
        format,
        key.subarray(from, from + headWidth),
        storage.keyCodes.subarray(to, to + headWidth),
      );
      storage.valueScales[headRow] = storeHeadRow(
        format,
        value.subarray(from, from + headWidth),
        storage.valueCodes.subarray(to, to + headWidth),
      );
    }
  });
}

function storeHeadRow(format: KvFormat, source: Float32Array, codes: Float32Array): number {
  if (format === "q8") return quantizeActivationGroup(source, codes);
  if (format === "f32") codes.set(source);
  else for (let d = 0; d < source.length; d++) codes[d] = finiteHalf(source[d]!);
  return 1;
}

/** Rounded to half precision; what would become infinite, or is NaN, becomes the largest half. */
function finiteHalf(value: number): number {
  const half = f16ToF32(f32ToF16(value));
  return Number.isFinite(half) ? half : value < 0 ? -HALF_MAX : HALF_MAX;
}
