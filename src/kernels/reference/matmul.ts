/** Products with weight matrices: y = x * W^T, summed in float64 in ascending k, rounded once. */
import { assert } from "@/assert.ts";
import type { Matrix } from "../backend.ts";
import { GROUP_COLUMNS, isQuantised } from "../matrix_layout.ts";
import { groupsPerRow, readRow } from "./matrix.ts";
import { quantizeActivationGroup } from "./quantize.ts";
import { matrixStorage } from "./storage.ts";

/** Multiplies one input row [K] with all rows of one expert: out [N]. */
export type RowProduct = (
  args: { input: Float32Array; expert: number; bias?: Float32Array; out: Float32Array },
) => void;

/** The product for the matrix's format. */
export function rowProductOf(weight: Matrix): RowProduct {
  return isQuantised(weight.format) ? quantizedProduct(weight) : floatProduct(weight);
}

function floatProduct(weight: Matrix): RowProduct {
  const { rows, columns } = weight;
  const { values } = matrixStorage(weight);
  return ({ input, expert, bias, out }) => {
    let place = expert * rows * columns;
    for (let n = 0; n < rows; n++) {
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += input[k]! * values[place++]!;
      out[n] = bias ? sum + bias[n]! : sum;
    }
  };
}

function quantizedProduct(weight: Matrix): RowProduct {
  const { rows, columns } = weight;
  const { codes, scales } = matrixStorage(weight);
  const groups = groupsPerRow(columns);
  const inputCodes = new Int8Array(columns);
  const inputScales = new Float64Array(groups);
  return ({ input, expert, bias, out }) => {
    for (let group = 0; group < groups; group++) {
      const from = group * GROUP_COLUMNS;
      const to = Math.min(from + GROUP_COLUMNS, columns);
      inputScales[group] = quantizeActivationGroup(
        input.subarray(from, to),
        inputCodes.subarray(from, to),
      );
    }
    for (let n = 0; n < rows; n++) {
      const row = expert * rows + n;
      let sum = 0;
      for (let group = 0; group < groups; group++) {
        const to = Math.min((group + 1) * GROUP_COLUMNS, columns);
        let dot = 0;
        for (let k = group * GROUP_COLUMNS; k < to; k++) {
          dot += inputCodes[k]! * codes[row * columns + k]!;
        }
        sum += dot * (scales[row * groups + group]! * inputScales[group]!);
      }
      out[n] = bias ? sum + bias[n]! : sum;
    }
  };
}

/** See `Ops.matmul`. */
export function matmul(
  args: { input: Float32Array; weight: Matrix; bias?: Float32Array; out: Float32Array },
): void {
  const { input, weight, bias, out } = args;
  const { rows, columns } = weight;
  const product = rowProductOf(weight);
  const rowCount = out.length / rows;
  for (let r = 0; r < rowCount; r++) {
    product({
      input: input.subarray(r * columns, (r + 1) * columns),
      expert: 0,
      ...(bias ? { bias } : {}),
      out: out.subarray(r * rows, (r + 1) * rows),
    });
  }
}

/** See `Ops.expertMatmul`. */
export function expertMatmul(
  args: {
    input: Float32Array;
    weight: Matrix;
    expertStart: Int32Array;
    groupedPair: Int32Array;
    choices: number | undefined;
    out: Float32Array;
  },
): void {
  const { input, weight, expertStart, groupedPair, choices, out } = args;
  const { rows, columns, experts } = weight;
  const product = rowProductOf(weight);
  for (let expert = 0; expert < experts; expert++) {
    for (let place = expertStart[expert]!; place < expertStart[expert + 1]!; place++) {
      const row = choices === undefined ? place : Math.floor(groupedPair[place]! / choices);
      product({
        input: input.subarray(row * columns, (row + 1) * columns),
        expert,
        out: out.subarray(place * rows, (place + 1) * rows),
      });
    }
  }
}

/** See `Ops.gatherRows`. */
export function gatherRows(
  args: { table: Matrix; rowIndex: Int32Array; out: Float32Array },
): void {
  const { table, rowIndex, out } = args;
  const width = table.columns;
  rowIndex.forEach((row, r) => {
    assert(row >= 0 && row < table.rows, `table row ${row} of ${table.rows}`);
    readRow(table, row, out.subarray(r * width, (r + 1) * width));
  });
}
