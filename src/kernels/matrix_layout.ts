/**
 * The packed bytes of a weight matrix, the same in all backends, so that packed files can be
 * written by one and read by another. The kernels' side is in `kernels-rs/compute/src/pack.rs`.
 *
 * A matrix is a list of experts, an expert a list of panels of eight rows, little-endian:
 * - `f32`, `bf16`, `f16`: [columns][8 rows] elements of that width;
 * - `q8`: per group of 32 columns, eight bf16 scales (one per row), then sixteen vectors of sixteen
 *   bytes: vector 2i + h holds rows 4h to 4h+3, and of each columns 4i to 4i+3, one code a byte;
 * - `q4`: the same with eight vectors: columns 4i to 4i+3 are the low halves of the bytes, columns
 *   16+4i to 16+4i+3 the high ones.
 *
 * Rows beyond the last are zero bytes; columns beyond the last hold the code of zero.
 */
import type { MatrixFormat } from "./backend.ts";

/** Raised when packed bytes change their meaning. */
export const matrixLayoutVersion = 1;

/** Rows of one panel, which a vector load feeds together. */
export const PANEL_ROWS = 8;
/** Columns that share one scale in a quantised format. */
export const GROUP_COLUMNS = 32;

export type QuantisedFormat = "q8" | "q4";

/** The code that stands for zero; codes run from 0 to twice that, less one. */
export const zeroCode: Readonly<Record<QuantisedFormat, number>> = { q8: 64, q4: 8 };

const scalesBytes = 2 * PANEL_ROWS;
/** Bytes of one panel's group. */
const groupBytes: Readonly<Record<QuantisedFormat, number>> = {
  q8: scalesBytes + PANEL_ROWS * GROUP_COLUMNS,
  q4: scalesBytes + PANEL_ROWS * GROUP_COLUMNS / 2,
};

export function isQuantised(format: MatrixFormat): format is QuantisedFormat {
  return format === "q8" || format === "q4";
}

interface MatrixShape {
  readonly format: MatrixFormat;
  /** Of one expert. */
  readonly rows: number;
  readonly columns: number;
}

/** Panels of one expert. */
export function panelCount({ rows }: Pick<MatrixShape, "rows">): number {
  return Math.ceil(rows / PANEL_ROWS);
}

/** Bytes of one panel; panels and experts follow each other without gaps. */
export function panelBytes({ format, columns }: Omit<MatrixShape, "rows">): number {
  if (isQuantised(format)) return Math.ceil(columns / GROUP_COLUMNS) * groupBytes[format];
  return columns * PANEL_ROWS * (format === "f32" ? 4 : 2);
}

/** Bytes of one expert's panels. */
export function expertBytes(shape: MatrixShape): number {
  return panelBytes(shape) * panelCount(shape);
}

/** Byte of a row's scale in its panel. */
export function scaleOffset(format: QuantisedFormat, lane: number, group: number): number {
  return group * groupBytes[format] + 2 * lane;
}

/** Byte of a code in its panel, and by how many bits the code is shifted there. */
export function codeOffset(
  format: QuantisedFormat,
  lane: number,
  column: number,
): { offset: number; shift: number } {
  const group = Math.floor(column / GROUP_COLUMNS);
  const inGroup = column % GROUP_COLUMNS;
  const half = format === "q4" ? inGroup % 16 : inGroup;
  const vector = 2 * Math.floor(half / 4) + Math.floor(lane / 4);
  const inVector = 4 * (lane % 4) + half % 4;
  return {
    offset: group * groupBytes[format] + scalesBytes + 16 * vector + inVector,
    shift: half === inGroup ? 0 : 4,
  };
}
