/**
 * Weights on the device: blocks of whole panels that fit into one binding each. Rows are converted
 * by another backend, whose panels have the same bytes; a panel goes up when rows of it arrive.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { fileDTypeBytes } from "@/tensor/dtype.ts";
import type { Backend, FileRows, Matrix, MatrixFormat, PackedPanels } from "../backend.ts";
import { PANEL_ROWS, panelBytes, panelCount } from "../matrix_layout.ts";
import type { Machine } from "./machine.ts";
import { MatrixStorage, matrixStorage, type PanelBlock, type Range } from "./storage.ts";

export class Matrices {
  readonly #machine: Machine;
  readonly #packer: Backend;

  /** `packer` converts rows: any backend, as they all write the same bytes. */
  constructor(machine: Machine, packer: Backend) {
    this.#machine = machine;
    this.#packer = packer;
  }

  create(
    options: { format: MatrixFormat; rows: number; columns: number; experts?: number },
  ): Matrix {
    const { format, rows, columns, experts = 1 } = options;
    const shape = { format, rows, columns, experts };
    const size = panelBytes(shape);
    const panels = panelCount(shape) * experts;
    const perBlock = Math.floor(this.#machine.bindingBytesMax / size);
    if (perBlock === 0) {
      const bound = this.#machine.bindingBytesMax;
      const message = `Cannot hold a weight of ${columns} columns on the GPU: eight rows take ` +
        `${size} bytes, one binding ${bound}`;
      throw new OperatingError("unavailable", message);
    }
    const blocks: PanelBlock[] = [];
    try {
      for (let firstPanel = 0; firstPanel < panels; firstPanel += perBlock) {
        const count = Math.min(perBlock, panels - firstPanel);
        const block = this.#machine.allocate(count * size);
        blocks.push(Object.assign(block, { firstPanel, panels: count }));
      }
    } catch (error) {
      for (const block of blocks) this.#machine.free(block);
      throw error;
    }
    return { ...shape, storage: new MatrixStorage(panels * size, blocks) };
  }

  async packRows(matrix: Matrix, part: FileRows): Promise<void> {
    const { expert = 0, firstRow, rowCount, bytes, dtype } = part;
    const rowBytes = matrix.columns * fileDTypeBytes[dtype];
    assert(expert >= 0 && expert < matrix.experts, `expert ${expert} of ${matrix.experts}`);
    const isInside = firstRow >= 0 && firstRow + rowCount <= matrix.rows;
    assert(isInside, `rows ${firstRow}+${rowCount} of ${matrix.rows}`);
    assert(bytes.byteLength === rowCount * rowBytes, `${bytes.byteLength} bytes of rows`);
    const chunkRows = Math.max(
      PANEL_ROWS,
      Math.floor(limits.packStagingBytesMax / rowBytes / PANEL_ROWS) * PANEL_ROWS,
    );
    let row = firstRow;
    while (row < firstRow + rowCount) {
      // Chunks after the first begin with a panel.
      const end = Math.min(firstRow + rowCount, row - row % PANEL_ROWS + chunkRows);
      await this.#packChunk(matrix, {
        expert,
        firstRow: row,
        rowCount: end - row,
        bytes: bytes.subarray((row - firstRow) * rowBytes, (end - firstRow) * rowBytes),
        dtype,
      });
      row = end;
    }
  }

  writePanels(matrix: Matrix, part: PackedPanels): void {
    const { expert = 0, firstPanel, bytes } = part;
    const size = panelBytes(matrix);
    assert(bytes.byteLength % size === 0, `${bytes.byteLength} bytes in panels of ${size}`);
    const panels = { expert, firstPanel, panelCount: bytes.byteLength / size };
    for (const { range, at } of this.#rangesOf(matrix, panels)) {
      const part = wordAligned(bytes.subarray(at, at + range.sizeBytes));
      this.#machine.write(range.block, range.byteOffset, part);
    }
  }

  async readPanels(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    const ranges = this.#rangesOf(matrix, part);
    const parts = await this.#machine.read(ranges.map(({ range }) => range));
    const bytes = new Uint8Array(part.panelCount * panelBytes(matrix));
    for (const [i, { at }] of ranges.entries()) bytes.set(parts[i]!, at);
    return bytes;
  }

  /** Packs rows as a matrix of their own that begins with the first row's panel. */
  async #packChunk(matrix: Matrix, part: FileRows & { expert: number }): Promise<void> {
    const { expert, firstRow, rowCount } = part;
    const { format, columns } = matrix;
    const lane = firstRow % PANEL_ROWS;
    const packed = this.#packer.createMatrix({ format, rows: lane + rowCount, columns });
    try {
      await this.#packer.packRows(packed, { ...part, expert: 0, firstRow: lane });
      const count = panelCount(packed);
      const bytes = await this.#packer.readPanels(packed, { firstPanel: 0, panelCount: count });
      if (lane > 0) clearLanes(bytes.subarray(0, panelBytes(matrix)), matrix, { end: lane });
      this.#place(matrix, { expert, firstRow, rowCount, bytes });
    } finally {
      this.#packer.free(packed);
    }
  }

  /** Writes whole panels; what is in part there is joined with what came before. */
  #place(
    matrix: Matrix,
    part: { expert: number; firstRow: number; rowCount: number; bytes: Uint8Array<ArrayBuffer> },
  ): void {
    const { expert, firstRow, rowCount, bytes } = part;
    const size = panelBytes(matrix);
    const firstPanel = Math.floor(firstRow / PANEL_ROWS);
    const endRow = firstRow + rowCount;
    for (const panel of [firstPanel, Math.floor((endRow - 1) / PANEL_ROWS)]) {
      const panelStart = panel * PANEL_ROWS;
      const panelEnd = Math.min(matrix.rows, panelStart + PANEL_ROWS);
      const rows = { from: Math.max(firstRow, panelStart), to: Math.min(endRow, panelEnd) };
      if (rows.from === panelStart && rows.to === panelEnd) continue;
      const at = (panel - firstPanel) * size;
      this.#join(matrix, { expert, panel, rows, bytes: bytes.subarray(at, at + size) });
    }
    this.writePanels(matrix, { expert, firstPanel, bytes });
  }

  /** Adds the rows of a panel that came earlier to `bytes`, and keeps all until it is whole. */
  #join(
    matrix: Matrix,
    part: {
      expert: number;
      panel: number;
      rows: { from: number; to: number };
      bytes: Uint8Array<ArrayBuffer>;
    },
  ): void {
    const { expert, panel, rows, bytes } = part;
    const { partial } = matrixStorage(matrix);
    const key = expert * panelCount(matrix) + panel;
    const held = partial.get(key) ?? { bytes: new Uint8Array(bytes.length), rows: 0 };
    for (let row = rows.from; row < rows.to; row++) held.rows |= 1 << row % PANEL_ROWS;
    clearLanes(held.bytes, matrix, {
      start: rows.from % PANEL_ROWS,
      end: (rows.to - 1) % PANEL_ROWS + 1,
    });
    for (const [i, byte] of bytes.entries()) held.bytes[i]! |= byte;
    bytes.set(held.bytes);
    const rowsInPanel = Math.min(PANEL_ROWS, matrix.rows - panel * PANEL_ROWS);
    if (held.rows === 2 ** rowsInPanel - 1) partial.delete(key);
    else partial.set(key, held);
  }

  /** Parts of panels by block; `at` is the byte among all of them. */
  #rangesOf(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): { range: Range; at: number }[] {
    const { expert = 0 } = part;
    const size = panelBytes(matrix);
    const perExpert = panelCount(matrix);
    assert(expert >= 0 && expert < matrix.experts, `expert ${expert} of ${matrix.experts}`);
    const isInside = part.firstPanel >= 0 && part.firstPanel + part.panelCount <= perExpert;
    assert(isInside, `panels ${part.firstPanel}+${part.panelCount} of ${perExpert}`);
    const first = expert * perExpert + part.firstPanel;
    const end = first + part.panelCount;
    const ranges: { range: Range; at: number }[] = [];
    for (const block of matrixStorage(matrix).blocks) {
      const from = Math.max(first, block.firstPanel);
      const to = Math.min(end, block.firstPanel + block.panels);
      if (from >= to) continue;
      const byteOffset = (from - block.firstPanel) * size;
      const range = { block, byteOffset, sizeBytes: (to - from) * size };
      ranges.push({ range, at: (from - first) * size });
    }
    return ranges;
  }
}

/** Bytes that start anywhere, as the device takes them. */
function wordAligned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes.byteOffset % 4 === 0 && bytes.buffer instanceof ArrayBuffer
    ? bytes as Uint8Array<ArrayBuffer>
    : bytes.slice();
}

/** Zeroes rows [start, end) of one panel. */
function clearLanes(
  bytes: Uint8Array,
  matrix: Matrix,
  { start = 0, end }: { start?: number; end: number },
): void {
  for (const [from, to] of laneRanges(matrix.format, bytes.length)) {
    const each = (to - from) / PANEL_ROWS;
    bytes.fill(0, from + start * each, from + end * each);
  }
}

/** Byte ranges of a panel in which the eight rows follow each other evenly. */
function* laneRanges(format: MatrixFormat, sizeBytes: number): Generator<[number, number]> {
  if (format !== "q8" && format !== "q4") {
    const column = PANEL_ROWS * (format === "f32" ? 4 : 2);
    for (let at = 0; at < sizeBytes; at += column) yield [at, at + column];
    return;
  }
  const vectors = format === "q8" ? 8 : 4;
  for (let at = 0; at < sizeBytes;) {
    yield [at, at += 2 * PANEL_ROWS];
    for (let i = 0; i < vectors; i++) yield [at, at += 4 * PANEL_ROWS];
  }
}
