/**
 * Where the weights that the model asks for lie in a checkpoint: parts of fused tensors, single or
 * stacked experts. Reads them in pieces of whole panels of rows.
 */
import type { FileRows, MatrixFormat } from "@/kernels/backend.ts";
import {
  PANEL_ROWS,
  panelBytes,
  panelCount,
  type QuantisedFormat,
} from "@/kernels/matrix_layout.ts";
import { fileDTypeBytes } from "@/tensor/dtype.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import type { TensorName } from "@/weights/names.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";
import { drawPanels, drawsPanels } from "@/weights/synthetic.ts";
import {
  expertName,
  type ExpertsRequest,
  type MatrixRequest,
  type VectorRequest,
} from "./parameter_source.ts";

/** Largest piece of a tensor in flight. */
const PIECE_BYTES = 4 * 1024 * 1024;

const formatOf = { F32: "f32", F16: "f16", BF16: "bf16" } as const;
export type FloatDType = keyof typeof formatOf;
export const floatDTypes: readonly string[] = Object.keys(formatOf);

/** The matrix format that keeps a stored tensor's values as they are. */
export function storedFormat(tensor: StoredTensor): MatrixFormat {
  return formatOf[tensor.dtype as FloatDType];
}

/** A weight's rows inside a stored tensor. */
export interface RowsInFile {
  readonly tensor: StoredTensor;
  readonly firstRow: number;
  readonly rows: number;
  readonly columns: number;
}

/** Bytes of these rows in the checkpoint. */
export function storedBytes({ tensor, rows, columns }: RowsInFile): number {
  return rows * columns * fileDTypeBytes[tensor.dtype];
}

/** A tensor that a check has found before. */
export function tensorOf(checkpoint: Checkpoint, name: TensorName): StoredTensor {
  const tensor = checkpoint.tensors.get(name);
  if (!tensor) throw new RangeError(`Checkpoint ${checkpoint.label} has no tensor ${name}`);
  return tensor;
}

export function rowsOfMatrix(checkpoint: Checkpoint, request: MatrixRequest): RowsInFile {
  const { name, rows, columns, stored } = request;
  const tensor = tensorOf(checkpoint, stored?.name ?? name);
  return { tensor, firstRow: stored?.firstRow ?? 0, rows, columns };
}

/** Where an expert's rows lie in a fused 3-D tensor: gate rows come before up rows. */
export function fusedExperts(request: ExpertsRequest): {
  readonly name: TensorName;
  readonly storedRows: number;
  readonly firstRow: number;
} {
  const at = `decoder.${request.layer}.experts`;
  const { rows, part } = request;
  if (part === "down") return { name: `${at}.down`, storedRows: rows, firstRow: 0 };
  const firstRow = part === "up" ? rows : 0;
  return { name: `${at}.gateUp`, storedRows: 2 * rows, firstRow };
}

export function rowsOfExpert(
  checkpoint: Checkpoint,
  request: ExpertsRequest,
  expert: number,
): RowsInFile {
  const { rows, columns } = request;
  const fused = fusedExperts(request);
  const tensor = checkpoint.tensors.get(fused.name);
  if (tensor) {
    return { tensor, firstRow: expert * fused.storedRows + fused.firstRow, rows, columns };
  }
  const name = expertName(request, expert);
  return { tensor: tensorOf(checkpoint, name), firstRow: 0, rows, columns };
}

/** The rows in order; every piece but the last has a multiple of eight rows. */
export async function* readRows(
  checkpoint: Checkpoint,
  place: RowsInFile,
): AsyncGenerator<FileRows, undefined> {
  const { tensor, rows, columns } = place;
  const dtype = tensor.dtype as FloatDType;
  const rowBytes = columns * fileDTypeBytes[dtype];
  const pieceRows = Math.max(1, Math.floor(PIECE_BYTES / rowBytes / PANEL_ROWS)) * PANEL_ROWS;
  for (let firstRow = 0; firstRow < rows; firstRow += pieceRows) {
    const rowCount = Math.min(pieceRows, rows - firstRow);
    const offset = (place.firstRow + firstRow) * rowBytes;
    const bytes = await checkpoint.read(tensor, offset, rowCount * rowBytes);
    yield { firstRow, rowCount, bytes, dtype };
  }
}

/** Whether a weight comes as packed panels (see `drawnPanels`), not as rows. */
export function hasDrawnPanels(place: RowsInFile, format: MatrixFormat): boolean {
  return drawsPanels(place.tensor, { ...place, format });
}

/** The packed panels of a drawn weight, in order. */
export function* drawnPanels(
  place: RowsInFile,
  format: QuantisedFormat,
): Generator<{ readonly firstPanel: number; readonly bytes: Uint8Array }, undefined> {
  const { tensor, rows, columns } = place;
  const bytesOfPanel = panelBytes({ format, columns });
  const panels = panelCount({ rows });
  const pieceOf = Math.max(1, Math.floor(PIECE_BYTES / bytesOfPanel));
  for (let firstPanel = 0; firstPanel < panels; firstPanel += pieceOf) {
    const bytes = new Uint8Array(Math.min(pieceOf, panels - firstPanel) * bytesOfPanel);
    const firstRow = place.firstRow + firstPanel * PANEL_ROWS;
    drawPanels(tensor, { format, firstRow, columns }, bytes);
    yield { firstPanel, bytes };
  }
}

/** The bytes of a vector and their type. */
export async function readVector(
  checkpoint: Checkpoint,
  request: VectorRequest,
): Promise<{ readonly bytes: Uint8Array; readonly dtype: FloatDType }> {
  const tensor = tensorOf(checkpoint, request.stored?.name ?? request.name);
  const width = fileDTypeBytes[tensor.dtype];
  const offset = (request.stored?.first ?? 0) * width;
  const bytes = await checkpoint.read(tensor, offset, request.size * width);
  return { bytes, dtype: tensor.dtype as FloatDType };
}
