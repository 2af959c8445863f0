/** Ops around the KV cache, and attention inside segments. */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import { attendingRows, segmentSizes, writtenRows } from "../attention_shapes.ts";
import type { KvCache } from "../backend.ts";
import { GROUP_COLUMNS } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import type { Codes } from "./activations.ts";
import type { Machine } from "./machine.ts";
import { cacheLayer, rangeOf } from "./ranges.ts";
import * as shaders from "./shaders/attention.ts";
import { pagedTiles, segmentTiles, TILE_PAIRS } from "./shaders/attention_tiles.ts";
import { headRowElements, KV_GROUP, writeKv } from "./shaders/kv_pages.ts";
import { SPAN_TOKENS } from "./shaders/softmax_sums.ts";
import type { Range } from "./storage.ts";

/** Rows from which sharing keys and values pays, if they are of few sequences. */
const SHARED_ROWS_MIN = 8;
const ROWS_PER_SEQUENCE_MIN = 4;

/** With `shared` many rows of a sequence share what they read; no bit depends on it. */
export function attentionOps(
  machine: Machine,
  { shared }: { shared: boolean },
): Pick<Ops, "writeKv" | "attention" | "segmentAttention"> {
  return { ...pagedOps(machine, shared), ...segmentOps(machine, shared) };
}

function pagedOps(machine: Machine, shared: boolean): Pick<Ops, "writeKv" | "attention"> {
  return {
    writeKv(args) {
      const { cache, layer, key, value, slot } = args;
      const rows = writtenRows(args);
      const { range, numbers } = cacheLayer(cache, layer);
      const count = rows * cache.kvHeads * numbers.rowWords;
      machine.record(writeKv(cache.format), {
        tensors: {
          key: rangeOf(key),
          value: rangeOf(value),
          slot: rangeOf(slot, "i32"),
          cache: range,
        },
        numbers: { ...numbers, count, perWord: headRowElements(cache.format) },
        workgroups: { groups: Math.ceil(count / KV_GROUP) },
      });
    },
    attention: (args) => recordPaged(machine, args, { shared }),
  };
}

/** Whether the rows of a product's input can be rounded by the attention that makes them. */
export function roundsRows(
  { query, cache, pageTable }: Parameters<Ops["attention"]>[0],
  { shared }: { shared: boolean },
): boolean {
  const sharesRows = shared && isShared(rowsOf(query), rowsOf(pageTable));
  return !sharesRows && cache.headWidth % GROUP_COLUMNS === 0;
}

function isShared(rows: number, sequences: number): boolean {
  return rows >= Math.max(SHARED_ROWS_MIN, ROWS_PER_SEQUENCE_MIN * sequences);
}

/** With `codes` the output is rounded too, for which `roundsRows` must hold. */
export function recordPaged(
  machine: Machine,
  args: Parameters<Ops["attention"]>[0],
  options: { shared: boolean; codes?: Codes },
): void {
  const { query, cache, layer, rowSequence, rowLength, pageTable, heads, scale, out } = args;
  const rows = attendingRows(args);
  const { range, numbers: layout } = cacheLayer(cache, layer);
  const numbers = { ...layout, rows, heads, sequencePages: widthOf(pageTable), scale };
  const tensors = {
    query: rangeOf(query),
    cache: range,
    sequence: rangeOf(rowSequence, "i32"),
    length: rangeOf(rowLength, "i32"),
    pageTable: rangeOf(pageTable, "i32"),
  };
  if (options.shared && isShared(rows, rowsOf(pageTable))) {
    const tiles = Math.ceil(rows * heads / cache.kvHeads / TILE_PAIRS);
    const workgroups = tiles * cache.kvHeads;
    return machine.record(pagedTiles(cache.format, cache.headWidth), {
      tensors: { ...tensors, out: rangeOf(out) },
      numbers: { ...numbers, workgroups, four: 4 },
      workgroups: { groups: workgroups },
    });
  }
  const { codes } = options;
  recordRows(machine, { format: cache.format, tensors, numbers, out: rangeOf(out), codes });
}

/** Row by row, in spans where a sequence may be longer than one. */
function recordRows(
  machine: Machine,
  args: {
    format: KvCache["format"];
    tensors: Readonly<Record<string, Range>> & { readonly length: Range };
    numbers: Readonly<
      Record<"rows" | "heads" | "headWidth" | "pageTokens" | "sequencePages", number>
    >;
    out: Range;
    codes: Codes | undefined;
  },
): void {
  const { format, tensors, numbers, out, codes } = args;
  const rounds = codes !== undefined;
  const { rows, heads, headWidth, pageTokens, sequencePages } = numbers;
  const spans = Math.max(1, Math.ceil(pageTokens * sequencePages / SPAN_TOKENS));
  const split = spans > 1;
  const partial = split
    ? machine.scratch("attention", 4 * rows * heads * spans * (headWidth + 2))
    : out;
  machine.record(shaders.pagedAttention(format, { split, rounds: rounds && !split }), {
    tensors: { ...tensors, [split ? "partial" : "out"]: partial, ...(!split && codes) },
    numbers: { ...numbers, spans },
    workgroups: { groups: rows * heads * spans },
  });
  if (!split) return;
  machine.record(shaders.mergeAttention({ rounds }), {
    tensors: { partial, length: tensors.length, out, ...codes },
    numbers: { rows, heads, headWidth, spans },
    workgroups: { groups: rows * heads },
  });
}

function segmentOps(machine: Machine, shared: boolean): Pick<Ops, "segmentAttention"> {
  return {
    segmentAttention(args) {
      const { query, key, value, segmentRows, heads, scale, out } = args;
      const { rows, headWidth } = segmentSizes(args);
      assert(headWidth <= shaders.HEAD_WIDTH_MAX, `head width ${headWidth}`);
      const tensors = {
        query: rangeOf(query),
        key: rangeOf(key),
        value: rangeOf(value),
        out: rangeOf(out),
      };
      const numbers = { rows, heads, headWidth, segmentRows, scale };
      if (!shared || segmentRows < SHARED_ROWS_MIN) {
        return recordSegments(machine, { tensors, numbers });
      }
      const workgroups = Math.ceil(rows / TILE_PAIRS) * heads;
      machine.record(segmentTiles(headWidth), {
        tensors,
        numbers: { ...numbers, workgroups, four: 4 },
        workgroups: { groups: workgroups },
      });
    },
  };
}

/** Row by row, in spans where segments are longer than one. */
function recordSegments(
  machine: Machine,
  args: {
    tensors: Readonly<Record<"query" | "key" | "value" | "out", Range>>;
    numbers: Readonly<Record<"rows" | "heads" | "headWidth" | "segmentRows" | "scale", number>>;
  },
): void {
  const { out, ...inputs } = args.tensors;
  const { rows, heads, headWidth, segmentRows } = args.numbers;
  const spans = Math.max(1, Math.ceil(segmentRows / SPAN_TOKENS));
  const split = spans > 1;
  const partial = split
    ? machine.scratch("attention", 4 * rows * heads * spans * (headWidth + 2))
    : out;
  machine.record(shaders.segmentAttention({ split }), {
    tensors: { ...inputs, [split ? "partial" : "out"]: partial },
    numbers: { ...args.numbers, spans },
    workgroups: { groups: rows * heads * spans },
  });
  if (!split) return;
  machine.record(shaders.mergeSegments, {
    tensors: { partial, out },
    numbers: { rows, heads, headWidth, spans, segmentRows },
    workgroups: { groups: rows * heads },
  });
}
