/**
 * The manifest of a packed folder: what is in it, in which layout, with the hash of every file and
 * tensor. It is written last, so a folder that has one is complete.
 */
import type { MatrixFormat } from "@/kernels/backend.ts";
import { expertBytes } from "@/kernels/matrix_layout.ts";
import type { TensorHeader } from "./safetensors_writer.ts";
import type { TensorName } from "./names.ts";
import { type Precision, presets, quantisations } from "./precision.ts";

/** Name of the manifest; a folder with this file is a packed folder. */
export const MANIFEST_FILE = "packed.json";
/** What an unfinished packing has done so far. */
export const JOURNAL_FILE = "packing.json";
/** Version of the folder's structure; the layout of the bytes has its own. */
export const PACKED_VERSION = 1;
/** Key in a part's `__metadata__` under which its matrices are described, as JSON. */
export const MATRICES_KEY = "flotilla.matrices";

const KIND = "flotilla-packed";

/** A matrix in the kernels' layout; stored as U8 [bytes]. */
export interface PackedMatrix {
  readonly format: MatrixFormat;
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
}

/** Bytes of a matrix in the kernels' layout. */
export function packedBytes(matrix: PackedMatrix): number {
  return matrix.experts * expertBytes(matrix);
}

/** A tensor to write: a packed matrix, or a float32 vector of `size` elements. */
export interface PackedEntry {
  readonly name: TensorName;
  readonly sizeBytes: number;
  readonly matrix?: PackedMatrix;
}

export interface FileRecord {
  readonly bytes: number;
  readonly sha256: string;
}

export interface TensorRecord {
  readonly file: string;
  readonly sha256: string;
  /** RMS of the rounding error over RMS of the weights; 0 when values are kept. */
  readonly relativeError: number;
}

export interface PackedManifest {
  /** Version of the kernels' layout of packed bytes. */
  readonly layout: number;
  readonly precision: Precision;
  /** Parameters of the source checkpoint. */
  readonly parameters: number;
  readonly files: Readonly<Record<string, FileRecord>>;
  readonly tensors: Readonly<Record<TensorName, TensorRecord>>;
}

/** Header entry of a packed tensor. */
export function headerOf({ name, sizeBytes, matrix }: PackedEntry): TensorHeader {
  return matrix
    ? { name, dtype: "U8", shape: [sizeBytes] }
    : { name, dtype: "F32", shape: [sizeBytes / 4] };
}

export function manifestText(manifest: PackedManifest): string {
  return JSON.stringify({ kind: KIND, version: PACKED_VERSION, ...manifest }, null, 1) + "\n";
}

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;
const isHash = (value: unknown) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
const isFileName = (name: string) => /^[\w][\w.-]*$/.test(name);

/** The manifest in `text`, or one sentence that says why it cannot be used. */
export function parseManifest(text: string): PackedManifest | string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return `${MANIFEST_FILE} is not JSON (${error instanceof Error ? error.message : error})`;
  }
  if (!isObject(json) || json.kind !== KIND) return `${MANIFEST_FILE} is not of kind "${KIND}"`;
  if (json.version !== PACKED_VERSION) {
    return `${MANIFEST_FILE} has version ${json.version}, this build reads ${PACKED_VERSION}: ` +
      "pack the checkpoint again";
  }
  const { layout, precision, parameters, files, tensors } = json;
  const fields: readonly (readonly [string, boolean])[] = [
    ["layout", isCount(layout)],
    ["parameters", isCount(parameters)],
    ["precision", isPrecision(precision)],
    ["files", isObject(files) && Object.entries(files).every(isFileEntry)],
    ["tensors", isObject(tensors) && Object.values(tensors).every(isTensorRecord)],
  ];
  const wrong = fields.filter(([, ok]) => !ok).map(([name]) => name);
  if (wrong.length > 0) return `${MANIFEST_FILE} has a missing or malformed ${wrong.join(", ")}`;
  return { layout, precision, parameters, files, tensors } as unknown as PackedManifest;
}

function isPrecision(value: unknown): boolean {
  return isObject(value) && (quantisations as readonly unknown[]).includes(value.quantisation) &&
    (presets as readonly unknown[]).includes(value.preset) &&
    (quantisations as readonly unknown[]).includes(value.vision);
}

function isFileEntry([name, record]: [string, unknown]): boolean {
  return isFileName(name) && isObject(record) && isCount(record.bytes) && isHash(record.sha256);
}

function isTensorRecord(record: unknown): boolean {
  return isObject(record) && typeof record.file === "string" && isHash(record.sha256) &&
    typeof record.relativeError === "number";
}

const formats: readonly unknown[] = ["f32", "bf16", "f16", "q8", "q4"];

/** The matrices that a part's metadata describes, or a sentence about what is wrong. */
export function parseMatrices(
  metadata: Readonly<Record<string, string>>,
): Readonly<Record<TensorName, PackedMatrix>> | string {
  let json: unknown;
  try {
    json = JSON.parse(metadata[MATRICES_KEY] ?? "null");
  } catch (error) {
    return `its ${MATRICES_KEY} is not JSON (${error instanceof Error ? error.message : error})`;
  }
  if (!isObject(json)) return `it has no ${MATRICES_KEY} in its metadata`;
  for (const [name, matrix] of Object.entries(json)) {
    const { format, experts, rows, columns } = isObject(matrix) ? matrix : {};
    if (!formats.includes(format) || ![experts, rows, columns].every(isCount)) {
      return `its ${MATRICES_KEY} describes ${name} as ${JSON.stringify(matrix)}`;
    }
  }
  return json as Readonly<Record<TensorName, PackedMatrix>>;
}
