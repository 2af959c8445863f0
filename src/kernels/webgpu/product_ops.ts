/** Products with packed weights: which kernel computes how many rows, and where its numbers lie. */
import { assert } from "@/assert.ts";
import { rowsOf, type Tensor } from "@/tensor/tensor.ts";
import type { Matrix } from "../backend.ts";
import { isQuantised } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Activations } from "./activations.ts";
import type { Machine } from "./machine.ts";
import { rangeOf, weightNumbers, wholeBlock } from "./ranges.ts";
import type { Routing } from "./shaders/products.ts";
import { expertTiles, TILE_COLUMNS, tileProduct, tileRows } from "./shaders/tiles.ts";
import { vectorProduct } from "./shaders/vectors.ts";
import { matrixStorage, type PanelBlock, type Range } from "./storage.ts";
import { type FormatTuning, type PanelsPerGroup, tileRowsOf, type Tuning } from "./tuning.ts";

/** Rows that share one reading of the weights without workgroup memory for the inputs. */
export const VECTOR_ROWS_MAX = 8;
/** Places per expert up to which each place reads the weights for itself. */
const PLACES_PER_EXPERT_MIN = 2;
/** Rows times panels whose partial sums fit into the workgroup memory that every adapter has. */
export const PARTIALS_MAX = 16;
/** Workgroups along one axis that every adapter takes. */
const GROUPS_MAX = 65535;

/** Rows that the kernel for so many takes: a power of two. */
export function vectorRows(rows: number): number {
  return [1, 2, 4, 8].find((count) => count >= rows)!;
}

/** One product: what it reads and writes, whatever kernel computes it. */
interface Product {
  readonly weight: Matrix;
  readonly tensors: Readonly<Record<string, Range>>;
  /** Rows, or places, of the output. */
  readonly rows: number;
  readonly bias: boolean;
  readonly routing: Routing;
  readonly choices: number;
}

export function productOps(
  machine: Machine,
  tuning: Tuning,
  activations: Activations,
): Pick<Ops, "matmul" | "expertMatmul"> {
  /** The input as the format's kernels take it. */
  const inputTensors = (
    { input, weight, rows }: { input: Tensor; weight: Matrix; rows: number },
  ): Readonly<Record<string, Range>> => {
    const range = rangeOf(input);
    if (!isQuantised(weight.format)) return { input: range };
    return { ...activations.codesOf({ range, rows, columns: weight.columns }) };
  };
  return {
    matmul({ input, weight, bias, out }) {
      assert(weight.experts === 1, `matmul with ${weight.experts} experts`);
      const rows = rowsOf(out);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [rows, weight.rows]);
      if (bias) expectSize("bias", bias, weight.rows);
      if (rows === 0) return;
      const tensors = {
        ...inputTensors({ input, weight, rows }),
        ...(bias && { bias: rangeOf(bias) }),
        out: rangeOf(out),
      };
      const product: Product = {
        ...{ weight, tensors, rows, bias: bias !== undefined },
        ...{ routing: "none", choices: 1 },
      };
      const tuned = tuning[weight.format];
      if (rows <= VECTOR_ROWS_MAX) recordVectors(machine, product, tuned);
      else recordTiles(machine, product, tileRowsOf(tuned, rows));
    },
    expertMatmul({ input, weight, expertStart, groupedPair, choices, out }) {
      const places = sizeOf(groupedPair);
      const rows = places / (choices ?? 1);
      expectSize("expertStart", expertStart, weight.experts + 1);
      expectShape("input", input, [rows, weight.columns]);
      expectShape("out", out, [places, weight.rows]);
      if (places === 0) return;
      const tensors = {
        ...inputTensors({ input, weight, rows }),
        ...(choices !== undefined && { pair: rangeOf(groupedPair, "i32") }),
        start: rangeOf(expertStart, "i32"),
        out: rangeOf(out),
      };
      const product: Product = {
        ...{ weight, tensors, rows: places, bias: false },
        ...{ routing: choices === undefined ? "place" : "pair", choices: choices ?? 1 },
      };
      const perExpert = places / Math.min(weight.experts, places);
      const tuned = tuning[weight.format];
      if (perExpert < PLACES_PER_EXPERT_MIN) recordVectors(machine, product, tuned);
      else recordTiles(machine, product, tileRowsOf(tuned, perExpert));
    },
  };
}

function numbersOf({ weight, rows, choices }: Product, block: PanelBlock) {
  const { firstPanel, panels } = block;
  return { ...weightNumbers(weight), rows, choices, firstPanel, panels };
}

function recordVectors(machine: Machine, product: Product, tuning: FormatTuning): void {
  const { weight, tensors, rows, bias, routing } = product;
  const isRouted = routing !== "none";
  const perGroup = isRouted ? 1 : vectorRows(rows);
  const panels = Math.min(tuning.vectorPanels, PARTIALS_MAX / perGroup) as PanelsPerGroup;
  const kernel = vectorProduct({ format: weight.format, bias, routing, rows: perGroup, panels });
  for (const block of matrixStorage(weight).blocks) {
    const numbers = numbersOf(product, block);
    for (let firstPlace = 0; firstPlace < rows; firstPlace += perGroup * GROUPS_MAX) {
      const groups = Math.min(GROUPS_MAX, Math.ceil((rows - firstPlace) / perGroup));
      machine.record(kernel, {
        tensors: { ...tensors, weight: wholeBlock(block) },
        numbers: { ...numbers, firstPlace },
        workgroups: [
          Math.ceil((isRouted ? numbers.expertPanels : block.panels) / panels),
          groups,
        ],
      });
    }
  }
}

function recordTiles(
  machine: Machine,
  product: Product,
  perThread: FormatTuning["tileRows"][number],
): void {
  const { weight, tensors, rows, bias, routing } = product;
  const isRouted = routing !== "none";
  const kernel = tileProduct({ format: weight.format, bias, routing, perThread });
  const height = tileRows(perThread);
  // Each expert may leave a tile unfilled.
  const tiles = Math.ceil(rows / height) + (isRouted ? Math.min(weight.experts, rows) : 0);
  const { start, ...rest } = tensors;
  const list = isRouted
    ? { tile: tileList(machine, { weight, start: start!, tiles, height }) }
    : {};
  for (const block of matrixStorage(weight).blocks) {
    const numbers = numbersOf(product, block);
    const panels = isRouted ? numbers.expertPanels : block.panels;
    machine.record(kernel, {
      tensors: { ...list, ...rest, weight: wholeBlock(block) },
      numbers,
      workgroups: [Math.ceil(8 * panels / TILE_COLUMNS), tiles],
    });
  }
}

function tileList(
  machine: Machine,
  args: { weight: Matrix; start: Range; tiles: number; height: number },
): Range {
  const { weight, start, tiles, height } = args;
  const tile = machine.scratch("tiles", 12 * tiles);
  machine.record(expertTiles, {
    tensors: { start, tile },
    numbers: { experts: weight.experts, tiles, tileRows: height },
    workgroups: [1, 1],
  });
  return tile;
}
