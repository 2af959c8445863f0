/** Ops that move rows: table look-up, copies, rotary positions, patches. */
import { assert } from "@/assert.ts";
import { rowsOf, widthOf } from "@/tensor/tensor.ts";
import { normalizationTable } from "../normalization.ts";
import type { Ops } from "../ops.ts";
import { expectShape, expectSize, sizeOf } from "../shape.ts";
import type { Machine } from "./machine.ts";
import { rangeOf, weightNumbers, wholeBlock } from "./ranges.ts";
import * as shaders from "./shaders/rows.ts";
import { type Block, matrixStorage } from "./storage.ts";

const groupsFor = (count: number) => ({ groups: Math.ceil(count / shaders.VALUE_GROUP) });

export function rowOps(
  machine: Machine,
): Pick<Ops, "gatherRows" | "copyRows" | "rope" | "patchify"> {
  return { ...tableOps(machine), ...copyOps(machine), ...patchOps(machine) };
}

function tableOps(machine: Machine): Pick<Ops, "gatherRows" | "rope"> {
  return {
    gatherRows({ table, rowIndex, out }) {
      assert(table.experts === 1, `table of ${table.experts} experts`);
      expectShape("out", out, [sizeOf(rowIndex), table.columns]);
      const count = sizeOf(out);
      const kernel = shaders.gatherRows(table.format);
      const panelWords = 4 * weightNumbers(table).panelVectors;
      for (const block of matrixStorage(table).blocks) {
        const { firstPanel, panels } = block;
        machine.record(kernel, {
          tensors: {
            table: wholeBlock(block),
            row: rangeOf(rowIndex, "i32"),
            out: rangeOf(out),
          },
          numbers: { count, width: table.columns, firstPanel, panels, panelWords },
          workgroups: groupsFor(count),
        });
      }
    },
    rope({ input, position, table, headWidth, out }) {
      const rows = rowsOf(input);
      const width = widthOf(input);
      assert(headWidth % 2 === 0 && width % headWidth === 0, `heads of ${headWidth} in ${width}`);
      expectSize("position", position, rows);
      expectShape("table", table, [rowsOf(table), headWidth]);
      expectShape("out", out, [rows, width]);
      const count = rows * width / 2;
      machine.record(shaders.rope, {
        tensors: {
          input: rangeOf(input),
          position: rangeOf(position, "i32"),
          table: rangeOf(table),
          out: rangeOf(out),
        },
        numbers: { count, pairs: width / 2, half: headWidth / 2 },
        workgroups: groupsFor(count),
      });
    },
  };
}

function copyOps(machine: Machine): Pick<Ops, "copyRows"> {
  return {
    copyRows({ source, sourceRow, out, outRow, width, rowCount }) {
      if (sourceRow) expectSize("sourceRow", sourceRow, rowCount);
      if (outRow) expectSize("outRow", outRow, rowCount);
      const count = rowCount * width;
      const options = { fromIndex: sourceRow !== undefined, toIndex: outRow !== undefined };
      machine.record(shaders.copyRows(options), {
        tensors: {
          source: rangeOf(source),
          ...(sourceRow && { sourceRow: rangeOf(sourceRow, "i32") }),
          out: rangeOf(out),
          ...(outRow && { outRow: rangeOf(outRow, "i32") }),
        },
        numbers: { count, width },
        workgroups: groupsFor(count),
      });
    },
  };
}

function patchOps(machine: Machine): Pick<Ops, "patchify"> {
  /** Tables of levels by the numbers that make them; a model has one. */
  const tables = new Map<string, Block>();
  const tableOf = (mean: readonly number[], deviation: readonly number[]): Block => {
    const key = `${mean}/${deviation}`;
    let block = tables.get(key);
    if (block === undefined) {
      const levels = new Float32Array(3 * 256);
      for (let c = 0; c < 3; c++) {
        levels.set(normalizationTable(mean[c]!, deviation[c]!), 256 * c);
      }
      block = machine.allocateOwn(levels.byteLength);
      machine.write(block, 0, new Uint8Array(levels.buffer));
      tables.set(key, block);
    }
    return block;
  };
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
      const count = sizeOf(out);
      const block = tableOf(mean, deviation);
      machine.record(shaders.patchify, {
        tensors: {
          tiles: rangeOf(tiles, "u8"),
          level: { block, byteOffset: 0, sizeBytes: block.sizeBytes },
          out: rangeOf(out),
        },
        numbers: { count, tileSize, patchSize },
        workgroups: groupsFor(count),
      });
    },
  };
}
