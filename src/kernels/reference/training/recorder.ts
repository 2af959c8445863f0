/**
 * The training ops of the reference backend: checks sizes when an op is recorded, captures typed
 * views, and leaves the computation as a closure for `flush`.
 */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import type { Matrix } from "../../backend.ts";
import { expectSize } from "../../shape.ts";
import {
  type AttentionRange,
  type FloatStore,
  type GradientTarget,
  squareBlocks,
  type TrainingOps,
} from "../../training_ops.ts";
import type { RecordOp } from "../recorder.ts";
import { f32View, HostStorage, i32View, MatrixStorage, matrixStorage } from "../storage.ts";
import { packedAttention, packedAttentionGrad } from "./attention.ts";
import {
  accumulate,
  copyRowsGrad,
  gatherRowsGrad,
  geluGrad,
  ropeGrad,
  swigluGrad,
  zeroRows,
} from "./elementwise.ts";
import { headGrad, headLogprobs } from "./head.ts";
import { layerNormGrad, rmsNormGrad } from "./norms.ts";
import { adamW, clipFactor, squareSums } from "./optimizer.ts";
import * as products from "./products.ts";
import { gateTopKGrad, routerLossGrad, routerStatistics } from "./routing.ts";

function weightsOf(matrix: Matrix): products.Weights {
  assert(matrix.format === "f32", `training a matrix of ${matrix.format}`);
  return { values: matrixStorage(matrix).values, rows: matrix.rows, columns: matrix.columns };
}

/** All elements of a store. */
function flatView({ storage }: FloatStore): Float32Array {
  if (storage instanceof MatrixStorage) return storage.values;
  assert(storage instanceof HostStorage, "the store belongs to another backend");
  return new Float32Array(storage.buffer);
}

const targetOf = (target: GradientTarget | undefined) =>
  target && { values: f32View(target.tensor), accumulate: target.accumulate };

/** All training ops, recording into `record`. */
export function recordingTrainingOps(record: RecordOp): TrainingOps {
  return {
    ...productOps(record),
    ...expertOps(record),
    ...normOps(record),
    ...elementwiseOps(record),
    ...rowOps(record),
    ...attentionOps(record),
    ...routerOps(record),
    ...headOps(record),
    ...optimizerOps(record),
  };
}

type Part<Name extends keyof TrainingOps> = Pick<TrainingOps, Name>;

function productOps(
  record: RecordOp,
): Part<"columnSums" | "matmulAdd" | "matmulInputGrad" | "matmulWeightGrad"> {
  return {
    columnSums({ input, accumulate, out }) {
      const width = rowsOf(out) * widthOf(out);
      assert(rowsOf(input) * widthOf(input) % width === 0, `[${input.shape}] in rows of ${width}`);
      const views = { input: f32View(input), accumulate, out: f32View(out) };
      record(() => products.columnSums(views));
    },
    matmulAdd({ input, weight, scale, out }) {
      expectSize("input", input, rowsOf(out) * weight.columns);
      expectSize("out", out, rowsOf(out) * weight.rows);
      const views = { input: f32View(input), weight: weightsOf(weight), scale, out: f32View(out) };
      record(() => products.matmulAdd(views));
    },
    matmulInputGrad({ outGrad, weight, scale, accumulate, inputGrad }) {
      expectSize("outGrad", outGrad, rowsOf(inputGrad) * weight.rows);
      expectSize("inputGrad", inputGrad, rowsOf(outGrad) * weight.columns);
      const views = {
        outGrad: f32View(outGrad),
        weight: weightsOf(weight),
        scale,
        accumulate,
        inputGrad: f32View(inputGrad),
      };
      record(() => products.matmulInputGrad(views));
    },
    matmulWeightGrad({ input, outGrad, scale, accumulate, weightGrad }) {
      expectSize("input", input, rowsOf(outGrad) * weightGrad.columns);
      expectSize("outGrad", outGrad, rowsOf(input) * weightGrad.rows);
      const views = {
        input: f32View(input),
        outGrad: f32View(outGrad),
        scale,
        accumulate,
        weightGrad: weightsOf(weightGrad),
      };
      record(() => products.matmulWeightGrad(views));
    },
  };
}

function expertOps(
  record: RecordOp,
): Part<"expertInputGrad" | "expertWeightGrad" | "sumPairs" | "combineRowsGrad"> {
  return {
    expertInputGrad({ outGrad, weight, expertStart, inputGrad }) {
      expectSize("outGrad", outGrad, rowsOf(inputGrad) * weight.rows);
      expectSize("expertStart", expertStart, weight.experts + 1);
      const views = {
        outGrad: f32View(outGrad),
        weight: weightsOf(weight),
        expertStart: i32View(expertStart),
        inputGrad: f32View(inputGrad),
      };
      record(() => products.expertInputGrad(views));
    },
    expertWeightGrad(args) {
      const { input, outGrad, expertStart, groupedPair, choices, accumulate, weightGrad } = args;
      expectSize("expertStart", expertStart, weightGrad.experts + 1);
      const views = {
        input: f32View(input),
        outGrad: f32View(outGrad),
        expertStart: i32View(expertStart),
        groupedPair: i32View(groupedPair),
        choices,
        accumulate,
        weightGrad: weightsOf(weightGrad),
      };
      record(() => products.expertWeightGrad(views));
    },
    sumPairs({ input, pairPlace, choices, accumulate, out }) {
      const width = widthOf(out);
      expectSize("input", input, rowsOf(out) * choices * width);
      expectSize("pairPlace", pairPlace, rowsOf(out) * choices);
      const views = {
        input: f32View(input),
        pairPlace: i32View(pairPlace),
        choices,
        width,
        accumulate,
        out: f32View(out),
      };
      record(() => products.sumPairs(views));
    },
    combineRowsGrad({ outGrad, input, pairPlace, expertWeight, inputGrad, weightGrad }) {
      const choices = widthOf(expertWeight);
      const width = widthOf(outGrad);
      expectSize("input", input, rowsOf(outGrad) * choices * width);
      const views = {
        outGrad: f32View(outGrad),
        input: f32View(input),
        pairPlace: i32View(pairPlace),
        expertWeight: f32View(expertWeight),
        choices,
        width,
        inputGrad: f32View(inputGrad),
        weightGrad: f32View(weightGrad),
      };
      record(() => products.combineRowsGrad(views));
    },
  };
}

function normOps(record: RecordOp): Part<"rmsNormGrad" | "layerNormGrad"> {
  const viewsOf = (args: Parameters<TrainingOps["rmsNormGrad"]>[0]) => {
    expectSize("outGrad", args.outGrad, rowsOf(args.input) * widthOf(args.input));
    expectSize("weight", args.weight, widthOf(args.input));
    return {
      input: f32View(args.input),
      weight: f32View(args.weight),
      epsilon: args.epsilon,
      outGrad: f32View(args.outGrad),
      inputGrad: targetOf(args.inputGrad),
      weightGrad: targetOf(args.weightGrad),
    };
  };
  return {
    rmsNormGrad(args) {
      const views = viewsOf(args);
      record(() => rmsNormGrad(views));
    },
    layerNormGrad(args) {
      const views = { ...viewsOf(args), biasGrad: targetOf(args.biasGrad) };
      record(() => layerNormGrad(views));
    },
  };
}

function elementwiseOps(
  record: RecordOp,
): Part<"fill" | "accumulate" | "swigluGrad" | "geluGrad" | "ropeGrad"> {
  return {
    fill({ out, value }) {
      const view = flatView(out);
      record(() => view.fill(value));
    },
    accumulate({ input, out }) {
      expectSize("input", input, rowsOf(out) * widthOf(out));
      const views = { input: f32View(input), out: f32View(out) };
      record(() => accumulate(views));
    },
    swigluGrad({ gate, up, outGrad, gateGrad, upGrad }) {
      const views = {
        gate: f32View(gate),
        up: f32View(up),
        outGrad: f32View(outGrad),
        gateGrad: f32View(gateGrad),
        upGrad: f32View(upGrad),
      };
      record(() => swigluGrad(views));
    },
    geluGrad({ input, outGrad, accumulate, inputGrad }) {
      const views = {
        input: f32View(input),
        outGrad: f32View(outGrad),
        accumulate,
        inputGrad: f32View(inputGrad),
      };
      record(() => geluGrad(views));
    },
    ropeGrad({ outGrad, position, table, headWidth, accumulate, inputGrad }) {
      expectSize("position", position, rowsOf(outGrad));
      const views = {
        outGrad: f32View(outGrad),
        position: i32View(position),
        table: f32View(table),
        headWidth,
        rowWidth: widthOf(outGrad),
        accumulate,
        inputGrad: f32View(inputGrad),
      };
      record(() => ropeGrad(views));
    },
  };
}

function rowOps(record: RecordOp): Part<"gatherRowsGrad" | "copyRowsGrad" | "zeroRows"> {
  return {
    gatherRowsGrad({ outGrad, rowIndex, tableGrad }) {
      const views = {
        outGrad: f32View(outGrad),
        rowIndex: i32View(rowIndex),
        tableGrad: weightsOf(tableGrad).values,
        width: tableGrad.columns,
      };
      record(() => gatherRowsGrad(views));
    },
    copyRowsGrad({ outGrad, outRow, sourceGrad, sourceRow, width, rowCount }) {
      const views = {
        outGrad: f32View(outGrad),
        outRow: outRow && i32View(outRow),
        sourceGrad: f32View(sourceGrad),
        sourceRow: sourceRow && i32View(sourceRow),
        width,
        rowCount,
      };
      record(() => copyRowsGrad(views));
    },
    zeroRows({ out, row, width, rowCount }) {
      const views = { out: f32View(out), row: row && i32View(row), width, rowCount };
      record(() => zeroRows(views));
    },
  };
}

function attentionOps(record: RecordOp): Part<"packedAttention" | "packedAttentionGrad"> {
  const viewsOf = (
    args: AttentionRange & Parameters<TrainingOps["packedAttention"]>[0],
  ) => {
    const { query, key, heads, kvHeads, rowLength, segmentRows } = args;
    const headWidth = widthOf(query) / heads;
    expectSize("key", key, rowsOf(query) * kvHeads * headWidth);
    if (rowLength) expectSize("rowLength", rowLength, rowsOf(query));
    return {
      query: f32View(query),
      key: f32View(key),
      value: f32View(args.value),
      rowLength: rowLength && i32View(rowLength),
      segmentRows: segmentRows ?? 0,
      heads,
      kvHeads,
      headWidth,
      scale: args.scale,
      out: f32View(args.out),
      logSum: f32View(args.logSum),
    };
  };
  return {
    packedAttention(args) {
      const views = viewsOf(args);
      record(() => packedAttention(views));
    },
    packedAttentionGrad(args) {
      const views = {
        ...viewsOf(args),
        outGrad: f32View(args.outGrad),
        queryGrad: f32View(args.queryGrad),
        keyGrad: f32View(args.keyGrad),
        valueGrad: f32View(args.valueGrad),
      };
      record(() => packedAttentionGrad(views));
    },
  };
}

function routerOps(
  record: RecordOp,
): Part<"gateTopKGrad" | "routerStatistics" | "routerLossGrad"> {
  return {
    gateTopKGrad(args) {
      const { logits, expertIndex, expertWeight, normalize, weightGrad, logitsGrad } = args;
      const views = {
        logits: f32View(logits),
        experts: widthOf(logits),
        k: widthOf(expertIndex),
        expertIndex: i32View(expertIndex),
        expertWeight: f32View(expertWeight),
        normalize,
        weightGrad: f32View(weightGrad),
        accumulate: args.accumulate,
        logitsGrad: f32View(logitsGrad),
      };
      record(() => gateTopKGrad(views));
    },
    routerStatistics({ logits, expertIndex, rowWeight, statistics }) {
      expectSize("statistics", statistics, 2 * widthOf(logits));
      const views = {
        logits: f32View(logits),
        experts: widthOf(logits),
        k: widthOf(expertIndex),
        expertIndex: i32View(expertIndex),
        rowWeight: f32View(rowWeight),
        statistics: f32View(statistics),
      };
      record(() => routerStatistics(views));
    },
    routerLossGrad({ logits, rowWeight, expertScale, zScale, accumulate, logitsGrad }) {
      expectSize("expertScale", expertScale, widthOf(logits));
      const views = {
        logits: f32View(logits),
        experts: widthOf(logits),
        rowWeight: f32View(rowWeight),
        expertScale: f32View(expertScale),
        zScale,
        accumulate,
        logitsGrad: f32View(logitsGrad),
      };
      record(() => routerLossGrad(views));
    },
  };
}

function headOps(record: RecordOp): Part<"headLogprobs" | "headGrad"> {
  const viewsOf = (args: Parameters<TrainingOps["headLogprobs"]>[0]) => {
    const rows = rowsOf(args.target) * widthOf(args.target);
    expectSize("input", args.input, rows * args.weight.columns);
    expectSize("logprob", args.logprob, rows);
    expectSize("entropy", args.entropy, rows);
    return {
      input: f32View(args.input),
      weight: weightsOf(args.weight),
      target: i32View(args.target),
      logprob: f32View(args.logprob),
      entropy: f32View(args.entropy),
    };
  };
  return {
    headLogprobs(args) {
      const views = viewsOf(args);
      record(() => headLogprobs(views));
    },
    headGrad(args) {
      const { weightGrad } = args;
      const views = {
        ...viewsOf(args),
        coefficient: f32View(args.coefficient),
        inputGrad: targetOf(args.inputGrad),
        weightGrad: weightGrad &&
          { values: weightsOf(weightGrad.matrix).values, accumulate: weightGrad.accumulate },
      };
      record(() => headGrad(views));
    },
  };
}

function optimizerOps(record: RecordOp): Part<"squareSums" | "clipFactor" | "adamW"> {
  return {
    squareSums({ input, partial }) {
      const view = flatView(input);
      expectSize("partial", partial, squareBlocks(view.length));
      const views = { input: view, partial: f32View(partial) };
      record(() => squareSums(views));
    },
    clipFactor({ partial, normMax, norm }) {
      const views = { partial: f32View(partial), normMax, norm: f32View(norm) };
      record(() => clipFactor(views));
    },
    adamW(args) {
      const views = {
        ...args,
        weights: flatView(args.weights),
        gradient: flatView(args.gradient),
        first: flatView(args.first),
        second: flatView(args.second),
        norm: f32View(args.norm),
      };
      for (const view of [views.gradient, views.first, views.second]) {
        assert(view.length === views.weights.length, "stores of different sizes");
      }
      record(() => adamW(views));
    },
  };
}
