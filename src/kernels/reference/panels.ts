/** Packed panels of a reference matrix: to and from the byte layout that all backends share. */
import { assert } from "@/assert.ts";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "@/tensor/half.ts";
import type { Matrix, PackedPanels } from "../backend.ts";
import {
  codeOffset,
  GROUP_COLUMNS,
  isQuantised,
  PANEL_ROWS,
  panelBytes,
  panelCount,
  type QuantisedFormat,
  scaleOffset,
  zeroCode,
} from "../matrix_layout.ts";
import { groupsPerRow } from "./matrix.ts";
import { matrixStorage } from "./storage.ts";

/** See `Backend.readPanels`. */
export function readPanels(
  matrix: Matrix,
  part: { expert?: number; firstPanel: number; panelCount: number },
): Uint8Array<ArrayBuffer> {
  const size = panelBytes(matrix);
  const bytes = new Uint8Array(part.panelCount * size);
  forEachRow(matrix, part, ({ row, lane, start }) => {
    encodeRow(matrix, { row, lane, view: new DataView(bytes.buffer, start, size) });
  });
  return bytes;
}

/** See `Backend.writePanels`. */
export function writePanels(matrix: Matrix, part: PackedPanels): void {
  const { bytes } = part;
  const size = panelBytes(matrix);
  assert(bytes.byteLength % size === 0, `${bytes.byteLength} bytes in panels of ${size}`);
  const range = { ...part, panelCount: bytes.byteLength / size };
  forEachRow(matrix, range, ({ row, lane, start }) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, size);
    decodeRow(matrix, { row, lane, view });
  });
}

/** A row of all experts' rows, and its place in a panel's bytes. */
interface PanelRow {
  readonly row: number;
  readonly lane: number;
  readonly view: DataView;
}

function forEachRow(
  matrix: Matrix,
  part: { expert?: number; firstPanel: number; panelCount: number },
  visit: (place: { row: number; lane: number; start: number }) => void,
): void {
  const { expert = 0, firstPanel, panelCount: count } = part;
  assert(expert >= 0 && expert < matrix.experts, `expert ${expert} of ${matrix.experts}`);
  assert(
    firstPanel >= 0 && firstPanel + count <= panelCount(matrix),
    `panels ${firstPanel}+${count} of ${panelCount(matrix)}`,
  );
  const end = Math.min(matrix.rows, (firstPanel + count) * PANEL_ROWS);
  for (let row = firstPanel * PANEL_ROWS; row < end; row++) {
    const panel = Math.floor(row / PANEL_ROWS) - firstPanel;
    visit({
      row: expert * matrix.rows + row,
      lane: row % PANEL_ROWS,
      start: panel * panelBytes(matrix),
    });
  }
}

function encodeRow(matrix: Matrix, place: PanelRow): void {
  if (isQuantised(matrix.format)) return encodeQuantised(matrix, matrix.format, place);
  const { columns, format } = matrix;
  const { row, lane, view } = place;
  const { values } = matrixStorage(matrix);
  for (let column = 0; column < columns; column++) {
    const value = values[row * columns + column]!;
    const element = column * PANEL_ROWS + lane;
    if (format === "f32") view.setFloat32(4 * element, value, true);
    else view.setUint16(2 * element, format === "bf16" ? f32ToBf16(value) : f32ToF16(value), true);
  }
}

function decodeRow(matrix: Matrix, place: PanelRow): void {
  if (isQuantised(matrix.format)) return decodeQuantised(matrix, matrix.format, place);
  const { columns, format } = matrix;
  const { row, lane, view } = place;
  const { values } = matrixStorage(matrix);
  const read = (element: number): number => {
    if (format === "f32") return view.getFloat32(4 * element, true);
    const bits = view.getUint16(2 * element, true);
    return format === "bf16" ? bf16ToF32(bits) : f16ToF32(bits);
  };
  for (let column = 0; column < columns; column++) {
    values[row * columns + column] = read(column * PANEL_ROWS + lane);
  }
}

function encodeQuantised(matrix: Matrix, format: QuantisedFormat, place: PanelRow): void {
  const { row, lane, view } = place;
  const { codes, scales } = matrixStorage(matrix);
  const groups = groupsPerRow(matrix.columns);
  for (let group = 0; group < groups; group++) {
    const scale = scales[row * groups + group]!;
    view.setUint16(scaleOffset(format, lane, group), f32ToBf16(scale), true);
  }
  for (let column = 0; column < groups * GROUP_COLUMNS; column++) {
    const code = column < matrix.columns ? codes[row * matrix.columns + column]! : 0;
    const { offset, shift } = codeOffset(format, lane, column);
    view.setUint8(offset, view.getUint8(offset) | (code + zeroCode[format]) << shift);
  }
}

function decodeQuantised(matrix: Matrix, format: QuantisedFormat, place: PanelRow): void {
  const { row, lane, view } = place;
  const { codes, scales } = matrixStorage(matrix);
  const groups = groupsPerRow(matrix.columns);
  for (let group = 0; group < groups; group++) {
    const bits = view.getUint16(scaleOffset(format, lane, group), true);
    scales[row * groups + group] = bf16ToF32(bits);
  }
  for (let column = 0; column < matrix.columns; column++) {
    const { offset, shift } = codeOffset(format, lane, column);
    const code = view.getUint8(offset) >> shift & 2 * zeroCode[format] - 1;
    codes[row * matrix.columns + column] = code - zeroCode[format];
  }
}
