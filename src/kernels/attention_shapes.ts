/** Shape checks of the ops around attention, the same for every executor. */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import type { Ops } from "./ops.ts";
import { expectShape, expectSize, sizeOf } from "./shape.ts";

/** Rows that go into the cache: key and value [rows, kvHeads * headWidth]. */
export function writtenRows({ cache, key, value, slot }: Parameters<Ops["writeKv"]>[0]): number {
  const rows = sizeOf(slot);
  expectShape("key", key, [rows, cache.kvHeads * cache.headWidth]);
  expectShape("value", value, [rows, cache.kvHeads * cache.headWidth]);
  return rows;
}

/** Rows that attend to the cache: query and out [rows, heads * headWidth]. */
export function attendingRows(args: Parameters<Ops["attention"]>[0]): number {
  const { query, cache, rowSequence, rowLength, heads, out } = args;
  const rows = rowsOf(query);
  assert(heads % cache.kvHeads === 0, `${heads} heads over ${cache.kvHeads} kv heads`);
  expectShape("query", query, [rows, heads * cache.headWidth]);
  expectShape("out", out, [rows, heads * cache.headWidth]);
  expectSize("rowSequence", rowSequence, rows);
  expectSize("rowLength", rowLength, rows);
  return rows;
}

/** Rows that attend inside whole segments: query, key, value and out [rows, heads * headWidth]. */
export function segmentSizes(
  { query, key, value, segmentRows, heads, out }: Parameters<Ops["segmentAttention"]>[0],
): { rows: number; headWidth: number } {
  const [rows, width] = [rowsOf(query), widthOf(query)];
  assert(segmentRows >= 1 && rows % segmentRows === 0, `${rows} rows in ${segmentRows}s`);
  assert(width % heads === 0, `${heads} heads in width ${width}`);
  for (const [name, tensor] of Object.entries({ key, value, out })) {
    expectShape(name, tensor, [rows, width]);
  }
  return { rows, headWidth: width / heads };
}
