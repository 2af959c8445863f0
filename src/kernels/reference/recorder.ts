/**
 * The op vocabulary of the reference backend: checks shapes when an op is recorded, captures typed
 * views, and leaves the computation as a closure for `flush`. The arithmetic is in the other files.
 */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import { attendingRows, segmentSizes, writtenRows } from "../attention_shapes.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize } from "../shape.ts";
import { attention, segmentAttention } from "./attention.ts";
import { add, copyRows, gelu, rope, swiglu } from "./elementwise.ts";
import { writeKv } from "./kv_cache.ts";
import { expertMatmul, gatherRows, matmul } from "./matmul.ts";
import { layerNorm, rmsNorm } from "./norm.ts";
import { patchify } from "./patchify.ts";
import { combineRows, gateTopK, groupByExpert } from "./routing.ts";
import { PARAM_COLUMNS, sample } from "./sample.ts";
import { f32View, i32View, u8View } from "./storage.ts";

/** Takes one recorded op. */
export type RecordOp = (run: () => void) => void;

/** All ops, recording into `record`. */
export function recordingOps(record: RecordOp): Ops {
  return {
    ...productOps(record),
    ...normOps(record),
    ...elementwiseOps(record),
    ...attentionOps(record),
    ...expertOps(record),
    ...edgeOps(record),
  };
}

function productOps(record: RecordOp): Pick<Ops, "gatherRows" | "matmul" | "expertMatmul"> {
  return {
    gatherRows({ table, rowIndex, out }) {
      expectShape("out", out, [rowsOf(rowIndex) * widthOf(rowIndex), table.columns]);
      const views = { table, rowIndex: i32View(rowIndex), out: f32View(out) };
      record(() => gatherRows(views));
    },
    matmul({ input, weight, bias, out }) {
      assert(weight.experts === 1, `matmul with ${weight.experts} experts`);
      expectShape("input", input, [rowsOf(out), weight.columns]);
      expectShape("out", out, [rowsOf(input), weight.rows]);
      if (bias) expectSize("bias", bias, weight.rows);
      const views = {
        input: f32View(input),
        weight,
        ...(bias ? { bias: f32View(bias) } : {}),
        out: f32View(out),
      };
      record(() => matmul(views));
    },
    expertMatmul({ input, weight, expertStart, groupedPair, choices, out }) {
      const pairs = rowsOf(groupedPair) * widthOf(groupedPair);
      expectSize("expertStart", expertStart, weight.experts + 1);
      expectShape("input", input, [pairs / (choices ?? 1), weight.columns]);
      expectShape("out", out, [pairs, weight.rows]);
      const views = {
        input: f32View(input),
        weight,
        expertStart: i32View(expertStart),
        groupedPair: i32View(groupedPair),
        choices,
        out: f32View(out),
      };
      record(() => expertMatmul(views));
    },
  };
}

function normOps(record: RecordOp): Pick<Ops, "rmsNorm" | "layerNorm"> {
  return {
    rmsNorm({ input, weight, epsilon, out }) {
      expectSize("weight", weight, widthOf(input));
      expectShape("out", out, [rowsOf(input), widthOf(input)]);
      const views = { input: f32View(input), weight: f32View(weight), epsilon, out: f32View(out) };
      record(() => rmsNorm(views));
    },
    layerNorm({ input, weight, bias, epsilon, out }) {
      expectSize("weight", weight, widthOf(input));
      expectSize("bias", bias, widthOf(input));
      expectShape("out", out, [rowsOf(input), widthOf(input)]);
      const views = {
        input: f32View(input),
        weight: f32View(weight),
        bias: f32View(bias),
        epsilon,
        out: f32View(out),
      };
      record(() => layerNorm(views));
    },
  };
}

function elementwiseOps(
  record: RecordOp,
): Pick<Ops, "copyRows" | "rope" | "swiglu" | "gelu" | "add"> {
  return {
    copyRows({ source, sourceRow, out, outRow, width, rowCount }) {
      if (sourceRow) expectSize("sourceRow", sourceRow, rowCount);
      if (outRow) expectSize("outRow", outRow, rowCount);
      const views = {
        source: f32View(source),
        sourceRow: sourceRow && i32View(sourceRow),
        out: f32View(out),
        outRow: outRow && i32View(outRow),
        width,
        rowCount,
      };
      record(() => copyRows(views));
    },
    rope({ input, position, table, headWidth, out }) {
      const rowWidth = widthOf(input);
      assert(headWidth % 2 === 0 && rowWidth % headWidth === 0, `heads of ${headWidth}`);
      expectSize("position", position, rowsOf(input));
      expectShape("table", table, [rowsOf(table), headWidth]);
      expectShape("out", out, [rowsOf(input), rowWidth]);
      const views = {
        input: f32View(input),
        position: i32View(position),
        table: f32View(table),
        headWidth,
        rowWidth,
        out: f32View(out),
      };
      record(() => rope(views));
    },
    swiglu({ gate, up, out }) {
      const views = { gate: f32View(gate), up: f32View(up), out: f32View(out) };
      expectSize("gate", gate, views.out.length);
      expectSize("up", up, views.out.length);
      record(() => swiglu(views));
    },
    gelu({ input, out }) {
      const views = { input: f32View(input), out: f32View(out) };
      expectSize("input", input, views.out.length);
      record(() => gelu(views));
    },
    add({ left, right, out }) {
      const views = { left: f32View(left), right: f32View(right), out: f32View(out) };
      expectSize("left", left, views.out.length);
      const divides = views.out.length === 0 || views.out.length % views.right.length === 0;
      assert(divides, `[${right.shape}] does not divide [${left.shape}]`);
      record(() => add(views));
    },
  };
}

function attentionOps(record: RecordOp): Pick<Ops, "writeKv" | "attention" | "segmentAttention"> {
  return {
    writeKv(args) {
      const { cache, layer, key, value, slot } = args;
      assert(layer >= 0 && layer < cache.layers, `layer ${layer} of ${cache.layers}`);
      writtenRows(args);
      const views = {
        cache,
        layer,
        key: f32View(key),
        value: f32View(value),
        slot: i32View(slot),
      };
      record(() => writeKv(views));
    },
    attention(args) {
      const { query, cache, layer, rowSequence, rowLength, pageTable, out } = args;
      assert(layer >= 0 && layer < cache.layers, `layer ${layer} of ${cache.layers}`);
      attendingRows(args);
      const views = {
        ...args,
        query: f32View(query),
        rowSequence: i32View(rowSequence),
        rowLength: i32View(rowLength),
        pageTable: i32View(pageTable),
        pagesPerSequence: widthOf(pageTable),
        out: f32View(out),
      };
      record(() => attention(views));
    },
    segmentAttention(args) {
      const { query, key, value, out } = args;
      const { headWidth } = segmentSizes(args);
      const views = {
        ...args,
        query: f32View(query),
        key: f32View(key),
        value: f32View(value),
        headWidth,
        out: f32View(out),
      };
      record(() => segmentAttention(views));
    },
  };
}

function expertOps(record: RecordOp): Pick<Ops, "gateTopK" | "groupByExpert" | "combineRows"> {
  return {
    gateTopK({ logits, k, normalize, expertIndex, expertWeight }) {
      const experts = widthOf(logits);
      assert(k >= 1 && k <= experts, `${k} of ${experts} experts`);
      expectShape("expertIndex", expertIndex, [rowsOf(logits), k]);
      expectShape("expertWeight", expertWeight, [rowsOf(logits), k]);
      const views = {
        logits: f32View(logits),
        experts,
        k,
        normalize,
        expertIndex: i32View(expertIndex),
        expertWeight: f32View(expertWeight),
      };
      record(() => gateTopK(views));
    },
    groupByExpert({ expertIndex, experts, expertStart, groupedPair, pairPlace }) {
      const views = {
        expertIndex: i32View(expertIndex),
        experts,
        expertStart: i32View(expertStart),
        groupedPair: i32View(groupedPair),
        pairPlace: i32View(pairPlace),
      };
      expectSize("expertStart", expertStart, experts + 1);
      expectSize("groupedPair", groupedPair, views.expertIndex.length);
      expectSize("pairPlace", pairPlace, views.expertIndex.length);
      record(() => groupByExpert(views));
    },
    combineRows({ input, pairPlace, expertWeight, out }) {
      const choices = widthOf(expertWeight);
      const width = widthOf(out);
      expectShape("expertWeight", expertWeight, [rowsOf(out), choices]);
      expectSize("pairPlace", pairPlace, rowsOf(out) * choices);
      expectShape("input", input, [rowsOf(out) * choices, width]);
      const views = {
        input: f32View(input),
        pairPlace: i32View(pairPlace),
        expertWeight: f32View(expertWeight),
        choices,
        width,
        out: f32View(out),
      };
      record(() => combineRows(views));
    },
  };
}

/** The first and the last op of a step. */
function edgeOps(record: RecordOp): Pick<Ops, "patchify" | "sample"> {
  return {
    patchify(args) {
      const { tiles, patchSize, out } = args;
      const [tileCount, tileSize, columns, channels] = tiles.shape;
      assert(
        tiles.shape.length === 4 && tileSize === columns && channels === 3,
        `tiles are [${tiles.shape}], expected [T, S, S, 3]`,
      );
      assert(tileSize! % patchSize === 0, `patches of ${patchSize} in tiles of ${tileSize}`);
      const patches = tileCount! * (tileSize! / patchSize) ** 2;
      expectShape("out", out, [patches, 3 * patchSize * patchSize]);
      const views = { ...args, tiles: u8View(tiles), tileSize: tileSize!, out: f32View(out) };
      record(() => patchify(views));
    },
    sample(args) {
      const rows = rowsOf(args.logits);
      const vocabularySize = widthOf(args.logits);
      expectShape("params", args.params, [rows, PARAM_COLUMNS]);
      expectSize("adjustStart", args.adjustStart, rows + 1);
      expectSize("id", args.id, rows);
      expectSize("logprob", args.logprob, rows);
      expectShape("candidateId", args.candidateId, [rows, widthOf(args.candidateLogprob)]);
      const views = {
        logits: f32View(args.logits),
        vocabularySize,
        params: f32View(args.params),
        mask: i32View(args.mask),
        adjustStart: i32View(args.adjustStart),
        adjustToken: i32View(args.adjustToken),
        adjustPenalty: f32View(args.adjustPenalty),
        adjustAdd: f32View(args.adjustAdd),
        id: i32View(args.id),
        logprob: f32View(args.logprob),
        candidateId: i32View(args.candidateId),
        candidateLogprob: f32View(args.candidateLogprob),
      };
      record(() => sample(views));
    },
  };
}
