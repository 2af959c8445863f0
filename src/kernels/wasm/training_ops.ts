/**
 * The training ops of the WASM backend: every op checks its shapes and appends one record. What the
 * records compute is in `kernels-rs/compute/src/train`.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import type { Matrix } from "../backend.ts";
import { expertBytes } from "../matrix_layout.ts";
import {
  type FloatStore,
  type GradientTarget,
  squareBlocks,
  type TrainingOps,
} from "../training_ops.ts";
import { storageOf } from "./layout.ts";
import type { Machine } from "./machine.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** As in `gemm.rs`: rows and columns of a register tile, steps of k packed together. */
const TILE = 4;
const PANEL = 8;
const K_BLOCK = 512;
/** Rows whose logits exist together, as in `head.rs`. */
const HEAD_ROWS = 128;
/** Query rows whose scores exist together, as in `attention.rs`. */
const QUERY_ROWS = 64;

const roundUp = (count: number, step: number) => Math.ceil(count / step) * step;
const flag = (value: boolean) => value ? 1 : 0;

/** All training ops, recording into `machine`. */
export function recordingTrainingOps(machine: Machine): TrainingOps {
  return {
    ...productOps(machine),
    ...expertOps(machine),
    ...pairOps(machine),
    ...routerOps(machine),
    ...normOps(machine),
    ...elementwiseOps(machine),
    ...rowOps(machine),
    ...attentionOps(machine),
    ...headOps(machine),
    ...optimizerOps(machine),
  };
}

type Part<Name extends keyof TrainingOps> = Pick<TrainingOps, Name>;

/** Floats that a product packs its operands into. */
function packedFloats(shape: { rows: number; columns: number; k: number }): number {
  const strips = roundUp(shape.rows, TILE) + roundUp(shape.columns, PANEL);
  return Math.min(shape.k, K_BLOCK) * strips;
}

/** Address of a float32 matrix's panels. */
function weightAddress(machine: Machine, matrix: Matrix): number {
  assert(matrix.format === "f32", `training a matrix of ${matrix.format}`);
  return storageOf(matrix, machine).address;
}

/** All elements of a store: where, and how many. */
function flat(machine: Machine, store: FloatStore): { address: number; count: number } {
  const { address, sizeBytes } = storageOf(store, machine);
  return { address, count: sizeBytes / FLOAT_BYTES };
}

/** Slots of a gradient that may be missing. */
function targetSlots(machine: Machine, target: GradientTarget | undefined, size: number) {
  if (!target) return { address: 0, accumulate: 0 };
  expectSize("gradient", target.tensor, size);
  return { address: machine.address(target.tensor), accumulate: flag(target.accumulate) };
}

function productOps(
  machine: Machine,
): Part<"columnSums" | "matmulAdd" | "matmulInputGrad" | "matmulWeightGrad"> {
  const scratch = (shape: { rows: number; columns: number; k: number }) =>
    machine.scratch(packedFloats(shape) * FLOAT_BYTES);
  return {
    columnSums({ input, accumulate, out }) {
      const width = sizeOf(out);
      const rows = sizeOf(input) / width;
      assert(Number.isInteger(rows), `[${input.shape}] in rows of ${width}`);
      const addresses = { input: machine.address(input), out: machine.address(out) };
      machine.record("columnSums", { rows, width, accumulate: flag(accumulate), ...addresses });
    },
    matmulAdd({ input, weight, scale, out }) {
      const rows = rowsOf(out);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [rows, weight.rows]);
      machine.record("matmulAdd", {
        rows,
        columns: weight.columns,
        width: weight.rows,
        input: machine.address(input),
        weight: weightAddress(machine, weight),
        scale,
        out: machine.address(out),
        scratch: scratch({ rows, columns: weight.rows, k: weight.columns }),
      });
    },
    matmulInputGrad({ outGrad, weight, scale, accumulate, inputGrad }) {
      const rows = rowsOf(outGrad);
      expectShape("outGrad", outGrad, [rows, weight.rows]);
      expectShape("inputGrad", inputGrad, [rows, weight.columns]);
      machine.record("matmulInputGrad", {
        rows,
        columns: weight.columns,
        width: weight.rows,
        outGrad: machine.address(outGrad),
        weight: weightAddress(machine, weight),
        scale,
        accumulate: flag(accumulate),
        inputGrad: machine.address(inputGrad),
        scratch: scratch({ rows, columns: weight.columns, k: weight.rows }),
      });
    },
    matmulWeightGrad({ input, outGrad, scale, accumulate, weightGrad }) {
      const { columns, rows: width } = weightGrad;
      const rows = rowsOf(outGrad);
      expectShape("input", input, [rows, columns]);
      expectShape("outGrad", outGrad, [rows, width]);
      machine.record("matmulWeightGrad", {
        rows,
        columns,
        width,
        input: machine.address(input),
        outGrad: machine.address(outGrad),
        scale,
        accumulate: flag(accumulate),
        weightGrad: weightAddress(machine, weightGrad),
        scratch: scratch({ rows: columns, columns: width, k: rows }),
      });
    },
  };
}

function expertOps(machine: Machine): Part<"expertInputGrad" | "expertWeightGrad"> {
  const sizes = (weight: Matrix) => ({
    columns: weight.columns,
    width: weight.rows,
    experts: weight.experts,
    expertFloats: expertBytes(weight) / FLOAT_BYTES,
  });
  return {
    expertInputGrad({ outGrad, weight, expertStart, inputGrad }) {
      const places = rowsOf(outGrad);
      const { columns, rows: width } = weight;
      expectShape("outGrad", outGrad, [places, width]);
      expectShape("inputGrad", inputGrad, [places, columns]);
      expectSize("expertStart", expertStart, weight.experts + 1);
      const packed = packedFloats({ rows: places, columns, k: width });
      machine.record("expertInputGrad", {
        places,
        ...sizes(weight),
        outGrad: machine.address(outGrad),
        weight: weightAddress(machine, weight),
        expertStart: machine.address(expertStart, "i32"),
        inputGrad: machine.address(inputGrad),
        scratch: machine.scratch(packed * FLOAT_BYTES),
      });
    },
    expertWeightGrad(args) {
      const { input, outGrad, expertStart, groupedPair, choices, accumulate, weightGrad } = args;
      const places = sizeOf(groupedPair);
      const { columns, rows: width } = weightGrad;
      expectShape("outGrad", outGrad, [places, width]);
      expectShape("input", input, [places / (choices ?? 1), columns]);
      expectSize("expertStart", expertStart, weightGrad.experts + 1);
      const packed = packedFloats({ rows: columns, columns: width, k: places });
      machine.record("expertWeightGrad", {
        places,
        ...sizes(weightGrad),
        input: machine.address(input),
        inputRows: rowsOf(input),
        outGrad: machine.address(outGrad),
        expertStart: machine.address(expertStart, "i32"),
        groupedPair: machine.address(groupedPair, "i32"),
        choices: choices ?? 0,
        accumulate: flag(accumulate),
        weightGrad: weightAddress(machine, weightGrad),
        scratch: machine.scratch(packed * FLOAT_BYTES),
      });
    },
  };
}

function pairOps(machine: Machine): Part<"sumPairs" | "combineRowsGrad"> {
  return {
    sumPairs({ input, pairPlace, choices, accumulate, out }) {
      const rows = rowsOf(out);
      const width = widthOf(out);
      assert(choices <= limits.expertChoicesMax, `${choices} choices`);
      expectShape("input", input, [rows * choices, width]);
      expectSize("pairPlace", pairPlace, rows * choices);
      machine.record("sumPairs", {
        rows,
        choices,
        width,
        input: machine.address(input),
        pairPlace: machine.address(pairPlace, "i32"),
        accumulate: flag(accumulate),
        out: machine.address(out),
      });
    },
    combineRowsGrad({ outGrad, input, pairPlace, expertWeight, inputGrad, weightGrad }) {
      const rows = rowsOf(outGrad);
      const width = widthOf(outGrad);
      const choices = widthOf(expertWeight);
      expectShape("expertWeight", expertWeight, [rows, choices]);
      expectShape("input", input, [rows * choices, width]);
      expectShape("inputGrad", inputGrad, [rows * choices, width]);
      expectShape("weightGrad", weightGrad, [rows, choices]);
      machine.record("combineRowsGrad", {
        rows,
        choices,
        width,
        outGrad: machine.address(outGrad),
        input: machine.address(input),
        pairPlace: machine.address(pairPlace, "i32"),
        expertWeight: machine.address(expertWeight),
        inputGrad: machine.address(inputGrad),
        weightGrad: machine.address(weightGrad),
      });
    },
  };
}

/** Most experts of a gate, whose probabilities the kernels hold on the stack. */
const EXPERTS_MAX = 512;

function routerOps(
  machine: Machine,
): Part<"gateTopKGrad" | "routerStatistics" | "routerLossGrad"> {
  const sizes = (logits: Tensor) => {
    const [rows, experts] = [rowsOf(logits), widthOf(logits)];
    assert(experts <= EXPERTS_MAX, `${experts} experts`);
    return { rows, experts, logits: machine.address(logits) };
  };
  return {
    gateTopKGrad(args) {
      const { logits, expertIndex, expertWeight, weightGrad, logitsGrad } = args;
      const slots = sizes(logits);
      const choices = widthOf(expertIndex);
      for (const [name, tensor] of Object.entries({ expertIndex, expertWeight, weightGrad })) {
        expectShape(name, tensor, [slots.rows, choices]);
      }
      expectShape("logitsGrad", logitsGrad, [slots.rows, slots.experts]);
      machine.record("gateTopKGrad", {
        ...slots,
        choices,
        normalize: flag(args.normalize),
        expertIndex: machine.address(expertIndex, "i32"),
        expertWeight: machine.address(expertWeight),
        weightGrad: machine.address(weightGrad),
        accumulate: flag(args.accumulate),
        logitsGrad: machine.address(logitsGrad),
      });
    },
    routerStatistics({ logits, expertIndex, rowWeight, statistics }) {
      const slots = sizes(logits);
      expectSize("rowWeight", rowWeight, slots.rows);
      expectSize("statistics", statistics, 2 * slots.experts);
      machine.record("routerStatistics", {
        ...slots,
        choices: widthOf(expertIndex),
        expertIndex: machine.address(expertIndex, "i32"),
        rowWeight: machine.address(rowWeight),
        statistics: machine.address(statistics),
      });
    },
    routerLossGrad({ logits, rowWeight, expertScale, zScale, accumulate, logitsGrad }) {
      const slots = sizes(logits);
      expectSize("rowWeight", rowWeight, slots.rows);
      expectSize("expertScale", expertScale, slots.experts);
      expectShape("logitsGrad", logitsGrad, [slots.rows, slots.experts]);
      machine.record("routerLossGrad", {
        ...slots,
        rowWeight: machine.address(rowWeight),
        expertScale: machine.address(expertScale),
        zScale,
        accumulate: flag(accumulate),
        logitsGrad: machine.address(logitsGrad),
      });
    },
  };
}

function normOps(machine: Machine): Part<"rmsNormGrad" | "layerNormGrad"> {
  const record = (
    args: Parameters<TrainingOps["layerNormGrad"]>[0],
    centred: boolean,
  ): void => {
    const { input, weight, epsilon, outGrad } = args;
    const [rows, width] = [rowsOf(input), widthOf(input)];
    expectSize("weight", weight, width);
    expectShape("outGrad", outGrad, [rows, width]);
    const inputGrad = targetSlots(machine, args.inputGrad, rows * width);
    const weightGrad = targetSlots(machine, args.weightGrad, width);
    const biasGrad = targetSlots(machine, args.biasGrad, width);
    machine.record("normGrad", {
      rows,
      width,
      centred: flag(centred),
      input: machine.address(input),
      weight: machine.address(weight),
      epsilon,
      outGrad: machine.address(outGrad),
      inputGrad: inputGrad.address,
      inputAccumulate: inputGrad.accumulate,
      weightGrad: weightGrad.address,
      weightAccumulate: weightGrad.accumulate,
      biasGrad: biasGrad.address,
      biasAccumulate: biasGrad.accumulate,
      scratch: machine.scratch(2 * rows * FLOAT_BYTES),
    });
  };
  return {
    rmsNormGrad: (args) => record(args, false),
    layerNormGrad: (args) => record(args, true),
  };
}

function elementwiseOps(
  machine: Machine,
): Part<"fill" | "accumulate" | "swigluGrad" | "geluGrad" | "ropeGrad"> {
  return {
    fill({ out, value }) {
      const { address, count } = flat(machine, out);
      machine.record("fill", { count, value, out: address });
    },
    accumulate({ input, out }) {
      const count = sizeOf(out);
      expectSize("input", input, count);
      const slots = { count, input: machine.address(input), out: machine.address(out) };
      machine.record("accumulate", slots);
    },
    swigluGrad({ gate, up, outGrad, gateGrad, upGrad }) {
      const count = sizeOf(outGrad);
      for (const [name, tensor] of Object.entries({ gate, up, gateGrad, upGrad })) {
        expectSize(name, tensor, count);
      }
      machine.record("swigluGrad", {
        count,
        gate: machine.address(gate),
        up: machine.address(up),
        outGrad: machine.address(outGrad),
        gateGrad: machine.address(gateGrad),
        upGrad: machine.address(upGrad),
      });
    },
    geluGrad({ input, outGrad, accumulate, inputGrad }) {
      const count = sizeOf(outGrad);
      expectSize("input", input, count);
      expectSize("inputGrad", inputGrad, count);
      machine.record("geluGrad", {
        count,
        input: machine.address(input),
        outGrad: machine.address(outGrad),
        accumulate: flag(accumulate),
        inputGrad: machine.address(inputGrad),
      });
    },
    ropeGrad({ outGrad, position, table, headWidth, accumulate, inputGrad }) {
      const [rows, width] = [rowsOf(outGrad), widthOf(outGrad)];
      expectSize("position", position, rows);
      expectShape("table", table, [rowsOf(table), headWidth]);
      expectShape("inputGrad", inputGrad, [rows, width]);
      machine.record("ropeGrad", {
        rows,
        width,
        headWidth,
        outGrad: machine.address(outGrad),
        position: machine.address(position, "i32"),
        table: machine.address(table),
        positions: rowsOf(table),
        accumulate: flag(accumulate),
        inputGrad: machine.address(inputGrad),
      });
    },
  };
}

function rowOps(machine: Machine): Part<"gatherRowsGrad" | "copyRowsGrad" | "zeroRows"> {
  return {
    gatherRowsGrad({ outGrad, rowIndex, tableGrad }) {
      const rows = sizeOf(rowIndex);
      const width = tableGrad.columns;
      expectShape("outGrad", outGrad, [rows, width]);
      machine.record("gatherRowsGrad", {
        rows,
        width,
        tableRows: tableGrad.rows,
        outGrad: machine.address(outGrad),
        rowIndex: machine.address(rowIndex, "i32"),
        tableGrad: weightAddress(machine, tableGrad),
      });
    },
    copyRowsGrad({ outGrad, outRow, sourceGrad, sourceRow, width, rowCount }) {
      if (outRow) expectSize("outRow", outRow, rowCount);
      if (sourceRow) expectSize("sourceRow", sourceRow, rowCount);
      machine.record("copyRowsGrad", {
        rows: rowCount,
        width,
        outGrad: machine.address(outGrad),
        outRow: outRow ? machine.address(outRow, "i32") : 0,
        outRows: Math.floor(sizeOf(outGrad) / width),
        sourceGrad: machine.address(sourceGrad),
        sourceRow: sourceRow ? machine.address(sourceRow, "i32") : 0,
        sourceRows: Math.floor(sizeOf(sourceGrad) / width),
      });
    },
    zeroRows({ out, row, width, rowCount }) {
      if (row) expectSize("row", row, rowCount);
      machine.record("zeroRows", {
        rows: rowCount,
        width,
        row: row ? machine.address(row, "i32") : 0,
        out: machine.address(out),
        outRows: Math.floor(sizeOf(out) / width),
      });
    },
  };
}

/** Slots that both attention ops have. */
function attentionSlots(
  machine: Machine,
  args: Omit<Parameters<TrainingOps["packedAttention"]>[0], "out" | "logSum">,
) {
  const { query, key, value, heads, kvHeads, rowLength, segmentRows } = args;
  const rows = rowsOf(query);
  const headWidth = widthOf(query) / heads;
  assert(Number.isInteger(headWidth) && heads % kvHeads === 0, `${heads} and ${kvHeads} heads`);
  expectShape("key", key, [rows, kvHeads * headWidth]);
  expectShape("value", value, [rows, kvHeads * headWidth]);
  if (rowLength) expectSize("rowLength", rowLength, rows);
  else {assert(
      segmentRows && rows % segmentRows === 0,
      `${rows} rows in segments of ${segmentRows}`,
    );}
  const tokens = roundUp(rowLength ? rows : segmentRows!, PANEL);
  const packed = (tokens + QUERY_ROWS) * (QUERY_ROWS + roundUp(headWidth, PANEL));
  const threadFloats = roundUp(2 * QUERY_ROWS * tokens + packed, 16);
  return {
    rows,
    segmentRows: segmentRows ?? 0,
    rowLength: rowLength ? machine.address(rowLength, "i32") : 0,
    heads,
    kvHeads,
    headWidth,
    scale: args.scale,
    query: machine.address(query),
    key: machine.address(key),
    value: machine.address(value),
    scratch: machine.scratch(machine.executor.threads * threadFloats * FLOAT_BYTES),
    threadFloats,
  };
}

function attentionOps(machine: Machine): Part<"packedAttention" | "packedAttentionGrad"> {
  return {
    packedAttention({ out, logSum, ...args }) {
      expectShape("out", out, [rowsOf(args.query), widthOf(args.query)]);
      expectSize("logSum", logSum, rowsOf(args.query) * args.heads);
      const addresses = { out: machine.address(out), logSum: machine.address(logSum) };
      machine.record("packedAttention", { ...attentionSlots(machine, args), ...addresses });
    },
    packedAttentionGrad({ out, logSum, outGrad, queryGrad, keyGrad, valueGrad, ...args }) {
      const { query, key } = args;
      for (const [name, tensor] of Object.entries({ out, outGrad, queryGrad })) {
        expectShape(name, tensor, [rowsOf(query), widthOf(query)]);
      }
      for (const [name, tensor] of Object.entries({ keyGrad, valueGrad })) {
        expectShape(name, tensor, [rowsOf(key), widthOf(key)]);
      }
      machine.record("packedAttentionGrad", {
        ...attentionSlots(machine, args),
        out: machine.address(out),
        logSum: machine.address(logSum),
        outGrad: machine.address(outGrad),
        queryGrad: machine.address(queryGrad),
        keyGrad: machine.address(keyGrad),
        valueGrad: machine.address(valueGrad),
      });
    },
  };
}

function headOps(machine: Machine): Part<"headLogprobs" | "headGrad"> {
  const slots = (args: Parameters<TrainingOps["headLogprobs"]>[0]) => {
    const { input, weight, target, logprob, entropy } = args;
    const rows = sizeOf(target);
    expectShape("input", input, [rows, weight.columns]);
    expectSize("logprob", logprob, rows);
    expectSize("entropy", entropy, rows);
    const block = Math.min(rows, HEAD_ROWS);
    const { columns, rows: vocabulary } = weight;
    const packed = Math.max(
      packedFloats({ rows: block, columns: vocabulary, k: columns }),
      packedFloats({ rows: block, columns, k: vocabulary }),
      packedFloats({ rows: columns, columns: vocabulary, k: block }),
    );
    const logitsBytes = roundUp(block * vocabulary * FLOAT_BYTES, 64);
    const logits = machine.scratch(logitsBytes + packed * FLOAT_BYTES);
    return {
      rows,
      columns,
      vocabulary,
      input: machine.address(input),
      weight: weightAddress(machine, weight),
      target: machine.address(target, "i32"),
      logprob: machine.address(logprob),
      entropy: machine.address(entropy),
      logits,
      scratch: logits + logitsBytes,
    };
  };
  const nothing = { inputGrad: 0, inputAccumulate: 0, weightGrad: 0, weightAccumulate: 0 };
  return {
    headLogprobs: (args) => machine.record("head", { ...slots(args), coefficient: 0, ...nothing }),
    headGrad({ coefficient, inputGrad, weightGrad, ...args }) {
      expectSize("coefficient", coefficient, sizeOf(args.target));
      const input = targetSlots(machine, inputGrad, sizeOf(args.input));
      machine.record("head", {
        ...slots(args),
        coefficient: machine.address(coefficient),
        inputGrad: input.address,
        inputAccumulate: input.accumulate,
        weightGrad: weightGrad ? weightAddress(machine, weightGrad.matrix) : 0,
        weightAccumulate: flag(weightGrad?.accumulate ?? false),
      });
    },
  };
}

function optimizerOps(machine: Machine): Part<"squareSums" | "clipFactor" | "adamW"> {
  return {
    squareSums({ input, partial }) {
      const { address, count } = flat(machine, input);
      expectSize("partial", partial, squareBlocks(count));
      machine.record("squareSums", { count, input: address, partial: machine.address(partial) });
    },
    clipFactor({ partial, normMax, norm }) {
      expectSize("norm", norm, 2);
      machine.record("clipFactor", {
        count: sizeOf(partial),
        partial: machine.address(partial),
        normMax,
        norm: machine.address(norm),
      });
    },
    adamW(args) {
      const { rate, decay, beta1, beta2, epsilon, step } = args;
      const stores = [args.weights, args.gradient, args.first, args.second];
      const [weights, gradient, first, second] = stores.map((store) => flat(machine, store));
      for (const store of [gradient, first, second]) {
        assert(store!.count === weights!.count, "stores of different sizes");
      }
      machine.record("adamW", {
        count: weights!.count,
        weights: weights!.address,
        gradient: gradient!.address,
        first: first!.address,
        second: second!.address,
        norm: machine.address(args.norm),
        keep: 1 - rate * decay,
        rate: rate / (1 - beta1 ** step),
        beta1,
        rest1: 1 - beta1,
        beta2,
        rest2: 1 - beta2,
        rootScale: 1 / Math.sqrt(1 - beta2 ** step),
        epsilon,
      });
    },
  };
}
