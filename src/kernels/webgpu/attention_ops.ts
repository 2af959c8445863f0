/** Ops around the KV cache, and attention inside segments. */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import { cacheLayer, rangeOf } from "./ranges.ts";
import * as shaders from "./shaders/attention.ts";

export function attentionOps(
  machine: Machine,
): Pick<Ops, "writeKv" | "attention" | "segmentAttention"> {
  return { ...pagedOps(machine), ...segmentOps(machine) };
}

function pagedOps(machine: Machine): Pick<Ops, "writeKv" | "attention"> {
  return {
    writeKv({ cache, layer, key, value, slot }) {
      const rows = sizeOf(slot);
      expectShape("key", key, [rows, cache.kvHeads * cache.headWidth]);
      expectShape("value", value, [rows, cache.kvHeads * cache.headWidth]);
      const { range, numbers } = cacheLayer(cache, layer);
      const count = rows * cache.kvHeads * numbers.rowWords;
      machine.record(shaders.writeKv(cache.format), {
        tensors: {
          key: rangeOf(key),
          value: rangeOf(value),
          slot: rangeOf(slot, "i32"),
          cache: range,
        },
        numbers: { ...numbers, count, perWord: shaders.headRowElements(cache.format) },
        workgroups: { groups: Math.ceil(count / shaders.ATTENTION_GROUP) },
      });
    },
    attention(args) {
      const { query, cache, layer, rowSequence, rowLength, pageTable, heads, scale, out } = args;
      const rows = rowsOf(query);
      assert(heads % cache.kvHeads === 0, `${heads} heads over ${cache.kvHeads} kv heads`);
      expectShape("query", query, [rows, heads * cache.headWidth]);
      expectShape("out", out, [rows, heads * cache.headWidth]);
      expectSize("rowSequence", rowSequence, rows);
      expectSize("rowLength", rowLength, rows);
      const { range, numbers } = cacheLayer(cache, layer);
      machine.record(shaders.pagedAttention(cache.format), {
        tensors: {
          query: rangeOf(query),
          cache: range,
          sequence: rangeOf(rowSequence, "i32"),
          length: rangeOf(rowLength, "i32"),
          pageTable: rangeOf(pageTable, "i32"),
          out: rangeOf(out),
        },
        numbers: { ...numbers, rows, heads, sequencePages: widthOf(pageTable), scale },
        workgroups: { groups: rows * heads },
      });
    },
  };
}

function segmentOps(machine: Machine): Pick<Ops, "segmentAttention"> {
  return {
    segmentAttention({ query, key, value, segmentRows, heads, scale, out }) {
      const [rows, width] = [rowsOf(query), widthOf(query)];
      assert(segmentRows >= 1 && rows % segmentRows === 0, `${rows} rows in ${segmentRows}s`);
      assert(width % heads === 0, `${heads} heads in width ${width}`);
      for (const [name, tensor] of Object.entries({ key, value, out })) {
        expectShape(name, tensor, [rows, width]);
      }
      const headWidth = width / heads;
      assert(headWidth <= shaders.HEAD_WIDTH_MAX, `head width ${headWidth}`);
      machine.record(shaders.segmentAttention, {
        tensors: {
          query: rangeOf(query),
          key: rangeOf(key),
          value: rangeOf(value),
          out: rangeOf(out),
        },
        numbers: { rows, heads, headWidth, segmentRows, scale },
        workgroups: { groups: rows * heads },
      });
    },
  };
}
