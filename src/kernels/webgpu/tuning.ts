/**
 * Choices of product kernels that suit one GPU better than another. None of them changes the order
 * of a sum, so results have the same bits with any: a tuning is no part of the numeric class.
 */
import type { MatrixFormat } from "../backend.ts";

/** Panels that one workgroup of a product with few rows computes. */
export const panelChoices = [1, 2, 4] as const;
export type PanelsPerGroup = (typeof panelChoices)[number];

/** Rows that one invocation of a tile keeps; a tile has 16 times as many. */
export const rowChoices = [1, 2, 4, 8] as const;
export type RowsPerThread = (typeof rowChoices)[number];

/** Rows of a product up to which each choice of `tileRows` counts; the last is for more. */
export const rowClasses = [16, 32, 96, Infinity] as const;

export interface FormatTuning {
  readonly vectorPanels: PanelsPerGroup;
  /** By class of rows. */
  readonly tileRows: readonly RowsPerThread[];
}

export type Tuning = Readonly<Record<MatrixFormat, FormatTuning>>;

/** Raised when kernels change so much that what was measured before says nothing. */
export const TUNING_VERSION = 1;

/** Tiles that are not much larger than what there is to compute. */
const safe: FormatTuning = { vectorPanels: 1, tileRows: [1, 2, 4, 8] };
export const defaultTuning: Tuning = { f32: safe, bf16: safe, f16: safe, q8: safe, q4: safe };

export const tunedFormats = Object.keys(defaultTuning) as MatrixFormat[];

/** The choice for a product of so many rows. */
export function tileRowsOf({ tileRows }: FormatTuning, rows: number): RowsPerThread {
  return tileRows[rowClasses.findIndex((most) => rows <= most)]!;
}

/** A tuning from its JSON; undefined for anything else. */
export function parseTuning(value: unknown): Tuning | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const isTuning = tunedFormats.every((format) => isFormatTuning(Reflect.get(value, format)));
  return isTuning ? value as Tuning : undefined;
}

function isFormatTuning(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { vectorPanels, tileRows } = value as Partial<FormatTuning>;
  return panelChoices.some((choice) => choice === vectorPanels) && Array.isArray(tileRows) &&
    tileRows.length === rowClasses.length &&
    tileRows.every((rows) => rowChoices.some((choice) => choice === rows));
}

/** E.g. "q4: panels 2, rows 1/2/4/8; …". */
export function tuningText(tuning: Tuning): string {
  return tunedFormats.map((format) => {
    const { vectorPanels, tileRows } = tuning[format];
    return `${format}: panels ${vectorPanels}, rows ${tileRows.join("/")}`;
  }).join("; ");
}
