/**
 * The op vocabulary of the WASM backend: every op checks its shapes and appends one record. What
 * the records compute is in `kernels-rs/compute`.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import { attendingRows, segmentSizes, writtenRows } from "../attention_shapes.ts";
import type { KvCache, Matrix } from "../backend.ts";
import { expertBytes, GROUP_COLUMNS, isQuantised, panelBytes } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import {
  ACTIVATION_GROUP_BYTES,
  attentionFloats,
  kvBytes,
  kvFormatNumber,
  matrixFormatNumber,
  segmentChunks,
  storageOf,
} from "./layout.ts";
import type { Machine } from "./machine.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";

/** Tokens of a block whose sum one thread makes, see `sample.rs`. */
const SAMPLE_BLOCK_TOKENS = 4096;
/** Columns of `params` in `sample`. */
const PARAM_COLUMNS = 8;

/** Bytes of 32 quantised activations; the kernels' side is in `activations.rs`. */
/** Rows that a kernel multiplies together. */
const TILE_ROWS = 8;
/** Rows and bytes of a block that stays in the second-level cache while weights run past it. */
const BLOCK_ROWS_MAX = 128;
const BLOCK_BYTES_MAX = 512 * 1024;

const alignUp = (size: number) => Math.ceil(size / 64) * 64;

/** All ops, recording into `machine`. */
export function recordingOps(machine: Machine): Ops {
  return {
    ...productOps(machine),
    ...normOps(machine),
    ...rowOps(machine),
    ...elementwiseOps(machine),
    ...attentionOps(machine),
    ...segmentOps(machine),
    ...expertOps(machine),
    ...patchOps(machine),
    ...samplingOps(machine),
  };
}

/**
 * Working memory of a product: the rows' int8 groups if the weights are quantised, then for each
 * thread a block of rows as it multiplies them.
 */
function productScratch(
  machine: Machine,
  matrix: Matrix,
  sizes: { rows: number; outRows: number },
) {
  const { rows, outRows } = sizes;
  const isInteger = isQuantised(matrix.format);
  const rowBytes = isInteger
    ? Math.ceil(matrix.columns / GROUP_COLUMNS) * ACTIVATION_GROUP_BYTES
    : matrix.columns * Float32Array.BYTES_PER_ELEMENT;
  const fitting = Math.floor(BLOCK_BYTES_MAX / rowBytes / TILE_ROWS) * TILE_ROWS;
  const blockRows = Math.max(TILE_ROWS, Math.min(fitting, BLOCK_ROWS_MAX));
  const rowsBytes = isInteger ? alignUp(rows * rowBytes) : 0;
  // One row alone is multiplied where it is.
  const blockBytes = outRows > 1 ? alignUp(blockRows * rowBytes) : 0;
  const scratch = machine.scratch(rowsBytes + machine.executor.threads * blockBytes);
  return { scratch, blockRows, blocks: scratch + rowsBytes };
}

function matrixSlots(machine: Machine, matrix: Matrix) {
  return {
    weight: storageOf(matrix, machine).address,
    format: matrixFormatNumber[matrix.format],
    panelBytes: panelBytes(matrix),
    columns: matrix.columns,
    width: matrix.rows,
  };
}

function productOps(machine: Machine): Pick<Ops, "matmul" | "expertMatmul"> {
  return {
    matmul({ input, weight, bias, out }) {
      assert(weight.experts === 1, `matmul with ${weight.experts} experts`);
      const rows = rowsOf(out);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [rows, weight.rows]);
      if (bias) expectSize("bias", bias, weight.rows);
      machine.record("matmul", {
        ...matrixSlots(machine, weight),
        rows,
        input: machine.address(input),
        bias: bias ? machine.address(bias) : 0,
        out: machine.address(out),
        ...productScratch(machine, weight, { rows, outRows: rows }),
      });
    },
    expertMatmul({ input, weight, expertStart, groupedPair, choices, out }) {
      const places = sizeOf(groupedPair);
      const inputRows = places / (choices ?? 1);
      expectSize("expertStart", expertStart, weight.experts + 1);
      expectShape("input", input, [inputRows, weight.columns]);
      expectShape("out", out, [places, weight.rows]);
      machine.record("expertMatmul", {
        ...matrixSlots(machine, weight),
        places,
        input: machine.address(input),
        inputRows,
        expertBytes: expertBytes(weight),
        experts: weight.experts,
        expertStart: machine.address(expertStart, "i32"),
        groupedPair: machine.address(groupedPair, "i32"),
        choices: choices ?? 0,
        out: machine.address(out),
        ...productScratch(machine, weight, { rows: inputRows, outRows: places }),
      });
    },
  };
}

function normOps(machine: Machine): Pick<Ops, "rmsNorm" | "layerNorm"> {
  const slots = (args: { input: Tensor; weight: Tensor; epsilon: number; out: Tensor }) => {
    const { input, weight, epsilon, out } = args;
    const rows = rowsOf(input);
    const width = widthOf(input);
    expectSize("weight", weight, width);
    expectShape("out", out, [rows, width]);
    return {
      rows,
      width,
      input: machine.address(input),
      weight: machine.address(weight),
      epsilon,
      out: machine.address(out),
    };
  };
  return {
    rmsNorm: (args) => machine.record("rmsNorm", slots(args)),
    layerNorm(args) {
      expectSize("bias", args.bias, widthOf(args.input));
      machine.record("layerNorm", { ...slots(args), bias: machine.address(args.bias) });
    },
  };
}

function rowOps(machine: Machine): Pick<Ops, "gatherRows" | "copyRows" | "rope"> {
  return {
    gatherRows({ table, rowIndex, out }) {
      assert(table.experts === 1, `table of ${table.experts} experts`);
      const rows = sizeOf(rowIndex);
      expectShape("out", out, [rows, table.columns]);
      const { weight, format, panelBytes } = matrixSlots(machine, table);
      machine.record("gatherRows", {
        rows,
        rowIndex: machine.address(rowIndex, "i32"),
        table: weight,
        format,
        panelBytes,
        tableRows: table.rows,
        width: table.columns,
        out: machine.address(out),
      });
    },
    copyRows({ source, sourceRow, out, outRow, width, rowCount }) {
      if (sourceRow) expectSize("sourceRow", sourceRow, rowCount);
      if (outRow) expectSize("outRow", outRow, rowCount);
      machine.record("copyRows", {
        rows: rowCount,
        source: machine.address(source),
        sourceRow: sourceRow ? machine.address(sourceRow, "i32") : 0,
        sourceRows: Math.floor(sizeOf(source) / width),
        out: machine.address(out),
        outRow: outRow ? machine.address(outRow, "i32") : 0,
        outRows: Math.floor(sizeOf(out) / width),
        width,
      });
    },
    rope({ input, position, table, headWidth, out }) {
      const rows = rowsOf(input);
      const width = widthOf(input);
      assert(headWidth % 2 === 0 && width % headWidth === 0, `heads of ${headWidth} in ${width}`);
      expectSize("position", position, rows);
      expectShape("table", table, [rowsOf(table), headWidth]);
      expectShape("out", out, [rows, width]);
      machine.record("rope", {
        rows,
        width,
        headWidth,
        input: machine.address(input),
        position: machine.address(position, "i32"),
        table: machine.address(table),
        positions: rowsOf(table),
        out: machine.address(out),
      });
    },
  };
}

function elementwiseOps(machine: Machine): Pick<Ops, "swiglu" | "gelu" | "add"> {
  return {
    swiglu({ gate, up, out }) {
      const count = sizeOf(out);
      expectSize("gate", gate, count);
      expectSize("up", up, count);
      machine.record("swiglu", {
        count,
        gate: machine.address(gate),
        up: machine.address(up),
        out: machine.address(out),
      });
    },
    gelu({ input, out }) {
      const count = sizeOf(out);
      expectSize("input", input, count);
      const slots = { count, input: machine.address(input), out: machine.address(out) };
      machine.record("gelu", slots);
    },
    add({ left, right, out }) {
      const count = sizeOf(out);
      const rightCount = sizeOf(right);
      expectSize("left", left, count);
      const divides = count === 0 || count % rightCount === 0;
      assert(divides, `[${right.shape}] does not divide [${left.shape}]`);
      machine.record("add", {
        count,
        left: machine.address(left),
        right: machine.address(right),
        rightCount,
        out: machine.address(out),
      });
    },
  };
}

/** Slots that describe one layer of a cache. */
function cacheSlots(machine: Machine, cache: KvCache, layer: number) {
  assert(layer >= 0 && layer < cache.layers, `layer ${layer} of ${cache.layers}`);
  const { valueOffset, scaleOffset, headBytes, layerBytes } = kvBytes(cache);
  return {
    cache: storageOf(cache, machine).address + layer * layerBytes,
    format: kvFormatNumber[cache.format],
    pages: cache.pages,
    pageTokens: cache.pageTokens,
    kvHeads: cache.kvHeads,
    headWidth: cache.headWidth,
    headBytes,
    valueOffset,
    scaleOffset,
  };
}

function attentionOps(machine: Machine): Pick<Ops, "writeKv" | "attention"> {
  return {
    writeKv(args) {
      const { cache, layer, key, value, slot } = args;
      machine.record("writeKv", {
        rows: writtenRows(args),
        key: machine.address(key),
        value: machine.address(value),
        slot: machine.address(slot, "i32"),
        ...cacheSlots(machine, cache, layer),
      });
    },
    attention(args) {
      const { query, cache, layer, rowSequence, rowLength, pageTable, heads, scale, out } = args;
      const rows = attendingRows(args);
      const threadFloats = attentionFloats({ headWidth: cache.headWidth, chunks: 1 });
      machine.record("attention", {
        rows,
        query: machine.address(query),
        heads,
        scale,
        out: machine.address(out),
        rowSequence: machine.address(rowSequence, "i32"),
        rowLength: machine.address(rowLength, "i32"),
        pageTable: machine.address(pageTable, "i32"),
        sequences: rowsOf(pageTable),
        sequencePages: widthOf(pageTable),
        ...cacheSlots(machine, cache, layer),
        scratch: machine.scratch(machine.executor.threads * threadFloats * 4),
        threadFloats,
      });
    },
  };
}

function segmentOps(machine: Machine): Pick<Ops, "segmentAttention"> {
  return {
    segmentAttention(args) {
      const { query, key, value, segmentRows, heads, scale, rounded, out } = args;
      const { rows, headWidth } = segmentSizes(args);
      assert(headWidth <= limits.headWidthMax, `head width ${headWidth}`);
      const threadFloats = attentionFloats({ headWidth, chunks: segmentChunks(segmentRows) });
      machine.record("segmentAttention", {
        rows,
        segmentRows,
        heads,
        headWidth,
        scale,
        query: machine.address(query),
        key: machine.address(key),
        value: machine.address(value),
        out: machine.address(out),
        scratch: machine.scratch(machine.executor.threads * threadFloats * 4),
        threadFloats,
        rounded: rounded ? 1 : 0,
      });
    },
  };
}

function expertOps(machine: Machine): Pick<Ops, "gateTopK" | "groupByExpert" | "combineRows"> {
  return {
    gateTopK({ logits, k, normalize, expertIndex, expertWeight }) {
      const rows = rowsOf(logits);
      const experts = widthOf(logits);
      assert(k >= 1 && k <= experts, `${k} of ${experts} experts`);
      expectShape("expertIndex", expertIndex, [rows, k]);
      expectShape("expertWeight", expertWeight, [rows, k]);
      machine.record("gateTopK", {
        rows,
        experts,
        choices: k,
        normalize: normalize ? 1 : 0,
        logits: machine.address(logits),
        expertIndex: machine.address(expertIndex, "i32"),
        expertWeight: machine.address(expertWeight),
      });
    },
    groupByExpert({ expertIndex, experts, expertStart, groupedPair, pairPlace }) {
      const pairs = sizeOf(expertIndex);
      expectSize("expertStart", expertStart, experts + 1);
      expectSize("groupedPair", groupedPair, pairs);
      expectSize("pairPlace", pairPlace, pairs);
      machine.record("groupByExpert", {
        pairs,
        experts,
        expertIndex: machine.address(expertIndex, "i32"),
        expertStart: machine.address(expertStart, "i32"),
        groupedPair: machine.address(groupedPair, "i32"),
        pairPlace: machine.address(pairPlace, "i32"),
      });
    },
    combineRows({ input, pairPlace, expertWeight, out }) {
      const rows = rowsOf(out);
      const width = widthOf(out);
      const choices = widthOf(expertWeight);
      assert(choices <= limits.expertChoicesMax, `${choices} choices`);
      expectShape("expertWeight", expertWeight, [rows, choices]);
      expectSize("pairPlace", pairPlace, rows * choices);
      expectShape("input", input, [rows * choices, width]);
      machine.record("combineRows", {
        rows,
        choices,
        width,
        input: machine.address(input),
        pairPlace: machine.address(pairPlace, "i32"),
        expertWeight: machine.address(expertWeight),
        out: machine.address(out),
      });
    },
  };
}

function patchOps(machine: Machine): Pick<Ops, "patchify"> {
  return {
    patchify({ tiles, patchSize, mean, deviation, out }) {
      const [tileCount = 0, tileSize = 0, columns, channels] = tiles.shape;
      assert(
        tiles.shape.length === 4 && tileSize === columns && channels === 3,
        `tiles are [${tiles.shape}], expected [T, S, S, 3]`,
      );
      assert(tileSize % patchSize === 0, `patches of ${patchSize} in tiles of ${tileSize}`);
      const patches = tileCount * (tileSize / patchSize) ** 2;
      expectShape("out", out, [patches, 3 * patchSize * patchSize]);
      machine.record("patchify", {
        tiles: tileCount,
        tileSize,
        patchSize,
        input: machine.address(tiles, "u8"),
        meanRed: mean[0],
        meanGreen: mean[1],
        meanBlue: mean[2],
        deviationRed: deviation[0],
        deviationGreen: deviation[1],
        deviationBlue: deviation[2],
        out: machine.address(out),
      });
    },
  };
}

function samplingOps(machine: Machine): Pick<Ops, "sample"> {
  return {
    sample(args) {
      const { logits, params, mask, adjustStart, adjustToken, id, logprob } = args;
      const rows = rowsOf(logits);
      const vocabulary = widthOf(logits);
      const candidates = widthOf(args.candidateId);
      const words = Math.ceil(vocabulary / 32);
      expectShape("params", params, [rows, PARAM_COLUMNS]);
      expectSize("adjustStart", adjustStart, rows + 1);
      expectSize("adjustPenalty", args.adjustPenalty, sizeOf(adjustToken));
      expectSize("adjustAdd", args.adjustAdd, sizeOf(adjustToken));
      expectSize("id", id, rows);
      expectSize("logprob", logprob, rows);
      expectShape("candidateId", args.candidateId, [rows, candidates]);
      expectShape("candidateLogprob", args.candidateLogprob, [rows, candidates]);
      // A float64 and two 32-bit values per token, and a sum and a maximum per block of each row.
      const threadBytes = Math.ceil(vocabulary * 16 / 64) * 64;
      const blockBytes = rows * Math.ceil(vocabulary / SAMPLE_BLOCK_TOKENS) * 16;
      machine.record("sample", {
        rows,
        vocabulary,
        candidates,
        logits: machine.address(logits),
        params: machine.address(params),
        mask: machine.address(mask, "i32"),
        masks: Math.floor(sizeOf(mask) / words),
        adjustStart: machine.address(adjustStart, "i32"),
        adjustToken: machine.address(adjustToken, "i32"),
        adjustPenalty: machine.address(args.adjustPenalty),
        adjustAdd: machine.address(args.adjustAdd),
        id: machine.address(id, "i32"),
        logprob: machine.address(logprob),
        candidateId: machine.address(args.candidateId, "i32"),
        candidateLogprob: machine.address(args.candidateLogprob),
        scratch: machine.scratch(machine.executor.threads * threadBytes + blockBytes),
        threadBytes,
      });
    },
  };
}
