/** Products with packed weights. */
import { assert } from "@/assert.ts";
import { rowsOf, type Tensor } from "@/tensor/tensor.ts";
import type { Matrix } from "../backend.ts";
import { isQuantised } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import {
  columnsOf,
  groupsOf,
  panelsPerExpert,
  rangeOf,
  weightNumbers,
  wholeBlock,
} from "./ranges.ts";
import * as shaders from "./shaders/products.ts";
import { matrixStorage, type Range } from "./storage.ts";

/** Rows of one dispatch: workgroups along one axis. */
const ROWS_MAX = 65535;

const perGroup = (count: number) => Math.ceil(count / shaders.PRODUCT_GROUP);

export function productOps(machine: Machine): Pick<Ops, "matmul" | "expertMatmul"> {
  return {
    matmul({ input, weight, bias, out }) {
      assert(weight.experts === 1, `matmul with ${weight.experts} experts`);
      const rows = rowsOf(out);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [rows, weight.rows]);
      if (bias) expectSize("bias", bias, weight.rows);
      const inputs = inputTensors(machine, { input, weight, rows });
      const kernel = shaders.matmul({ format: weight.format, bias: bias !== undefined });
      for (const block of matrixStorage(weight).blocks) {
        const { first, end } = columnsOf(weight, block);
        for (let firstRow = 0; firstRow < rows; firstRow += ROWS_MAX) {
          machine.record(kernel, {
            tensors: {
              ...inputs,
              weight: wholeBlock(block),
              ...(bias && { bias: rangeOf(bias) }),
              out: rangeOf(out),
            },
            numbers: {
              ...weightNumbers(weight),
              firstColumn: first,
              endColumn: end,
              firstRow,
            },
            workgroups: [perGroup(end - first), Math.min(ROWS_MAX, rows - firstRow)],
          });
        }
      }
    },
    expertMatmul({ input, weight, expertStart, groupedPair, choices, out }) {
      const places = sizeOf(groupedPair);
      const rows = places / (choices ?? 1);
      expectSize("expertStart", expertStart, weight.experts + 1);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [places, weight.rows]);
      const inputs = inputTensors(machine, { input, weight, rows });
      const byPair = choices !== undefined;
      const kernel = shaders.expertMatmul({ format: weight.format, byPair });
      for (const block of matrixStorage(weight).blocks) {
        for (let firstPlace = 0; firstPlace < places; firstPlace += ROWS_MAX) {
          machine.record(kernel, {
            tensors: {
              ...inputs,
              weight: wholeBlock(block),
              start: rangeOf(expertStart, "i32"),
              ...(byPair && { pair: rangeOf(groupedPair, "i32") }),
              out: rangeOf(out),
            },
            numbers: {
              ...weightNumbers(weight),
              experts: weight.experts,
              expertPanels: panelsPerExpert(weight),
              firstPanel: block.firstPanel,
              panels: block.panels,
              choices: choices ?? 1,
              firstPlace,
            },
            workgroups: [perGroup(weight.rows), Math.min(ROWS_MAX, places - firstPlace)],
          });
        }
      }
    },
  };
}

/** The input as the format's kernels take it; quantised formats round it first. */
function inputTensors(
  machine: Machine,
  { input, weight, rows }: { input: Tensor; weight: Matrix; rows: number },
): Readonly<Record<string, Range>> {
  if (!isQuantised(weight.format)) return { input: rangeOf(input) };
  const groups = groupsOf(weight.columns);
  const count = rows * groups;
  const codeBytes = 4 * shaders.CODE_WORDS * count;
  const { block } = machine.scratch(codeBytes + 8 * count);
  const integers = {
    codes: { block, byteOffset: 0, sizeBytes: codeBytes },
    scale: { block, byteOffset: codeBytes, sizeBytes: 4 * count },
    sum: { block, byteOffset: codeBytes + 4 * count, sizeBytes: 4 * count },
  };
  machine.record(shaders.quantizeRows, {
    tensors: { input: rangeOf(input), ...integers },
    numbers: { count, columns: weight.columns, groups },
    workgroups: { groups: perGroup(count) },
  });
  return integers;
}
