/** The paged KV cache: creation, and storing rows in its format. Reading is attention's work. */
import { assert } from "@/assert.ts";
import { f16ToF32, f32ToF16 } from "@/tensor/half.ts";
import type { KvCache, KvFormat } from "../backend.ts";
import { quantizeActivationGroup } from "./quantize.ts";
import { KvStorage, kvStorage } from "./storage.ts";

/** A zero cache. */
export function createKvCache(shape: Omit<KvCache, "storage">): KvCache {
  const headRows = shape.layers * shape.pages * shape.pageTokens * shape.kvHeads;
  return { ...shape, storage: new KvStorage(headRows, shape.headWidth) };
}

/** Index of the head row (slot, kv head 0) of a layer. */
export function firstHeadRow(cache: KvCache, layer: number, slot: number): number {
  return (layer * cache.pages * cache.pageTokens + slot) * cache.kvHeads;
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
  else for (let d = 0; d < source.length; d++) codes[d] = f16ToF32(f32ToF16(source[d]!));
  return 1;
}
