/** Weight matrices: conversion of file values into a format, and access to single rows. */
import { assert } from "@/assert.ts";
import { fileDTypeBytes } from "@/tensor/dtype.ts";
import { decodeToF32, f16ToF32, f32ToF16, roundToBf16 } from "@/tensor/half.ts";
import type { FileRows, Matrix, MatrixFormat } from "../backend.ts";
import { GROUP_COLUMNS, isQuantised } from "../matrix_layout.ts";
import { quantizeWeightGroup } from "./quantize.ts";
import { MatrixStorage, matrixStorage } from "./storage.ts";

export function groupsPerRow(columns: number): number {
  return Math.ceil(columns / GROUP_COLUMNS);
}

/** A zero matrix. */
export function createMatrix(
  options: { format: MatrixFormat; rows: number; columns: number; experts?: number },
): Matrix {
  const { format, rows, columns, experts = 1 } = options;
  const rowCount = experts * rows;
  const elements = rowCount * columns;
  const storage = new MatrixStorage(
    isQuantised(format)
      ? { values: 0, codes: elements, scales: rowCount * groupsPerRow(columns) }
      : { values: elements, codes: 0, scales: 0 },
  );
  return { format, experts, rows, columns, storage };
}

/** See `Backend.packRows`. */
export function packRows(matrix: Matrix, part: FileRows): void {
  const { expert = 0, firstRow, rowCount, bytes, dtype } = part;
  const { rows, columns, experts } = matrix;
  assert(expert >= 0 && expert < experts, `expert ${expert} of ${experts}`);
  assert(
    firstRow >= 0 && firstRow + rowCount <= rows,
    `rows ${firstRow}+${rowCount} of ${rows}`,
  );
  assert(
    bytes.byteLength === rowCount * columns * fileDTypeBytes[dtype],
    `${bytes.byteLength} bytes for [${rowCount}, ${columns}] ${dtype}`,
  );
  const values = decodeToF32(bytes, dtype);
  for (let row = 0; row < rowCount; row++) {
    const source = values.subarray(row * columns, (row + 1) * columns);
    storeRow(matrix, expert * rows + firstRow + row, source);
  }
}

function storeRow(matrix: Matrix, row: number, source: Float32Array): void {
  const { format, columns } = matrix;
  const storage = matrixStorage(matrix);
  const start = row * columns;
  if (!isQuantised(format)) {
    storage.values.set(format === "f32" ? source : source.map(roundingOf(format)), start);
    return;
  }
  const groups = groupsPerRow(columns);
  for (let group = 0; group < groups; group++) {
    const from = group * GROUP_COLUMNS;
    const to = Math.min(from + GROUP_COLUMNS, columns);
    const codes = storage.codes.subarray(start + from, start + to);
    const scale = quantizeWeightGroup(source.subarray(from, to), codes, format);
    storage.scales[row * groups + group] = scale;
  }
}

function roundingOf(format: "bf16" | "f16"): (value: number) => number {
  return format === "bf16" ? roundToBf16 : (value) => f16ToF32(f32ToF16(value));
}

/** Copies row `row` (of all experts' rows) as float32 into `out` [columns]. */
export function readRow(matrix: Matrix, row: number, out: Float32Array): void {
  const { format, columns } = matrix;
  const { values, codes, scales } = matrixStorage(matrix);
  const start = row * columns;
  if (!isQuantised(format)) {
    out.set(values.subarray(start, start + columns));
    return;
  }
  const firstScale = row * groupsPerRow(columns);
  for (let k = 0; k < columns; k++) {
    out[k] = codes[start + k]! * scales[firstScale + Math.floor(k / GROUP_COLUMNS)]!;
  }
}
