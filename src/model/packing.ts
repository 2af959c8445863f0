/**
 * Packing: a checkpoint, streamed piece by piece through the kernels' packing, becomes a packed
 * folder. At most one piece of one tensor is in memory. What the loader would make of the same
 * checkpoint and what it loads from the folder are the same bytes.
 */
import { createHash } from "node:crypto";
import { OperatingError } from "@/errors.ts";
import type { Backend, FileRows, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import { isQuantised, matrixLayoutVersion, panelCount } from "@/kernels/matrix_layout.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import type { TensorName } from "@/weights/names.ts";
import type { PackedEntry, PackedManifest } from "@/weights/packed_manifest.ts";
import { folderKind } from "@/weights/packed_folder.ts";
import { PackedWriter, planParts } from "@/weights/packed_writer.ts";
import { type Precision, samePrecision } from "@/weights/precision.ts";
import { type FileFolder, namesIn } from "@/weights/source.ts";
import {
  drawnPanels,
  hasDrawnPanels,
  readRows,
  readVector,
  storedBytes,
} from "./checkpoint_rows.ts";
import { openCheckpoint } from "./open_checkpoint.ts";
import {
  type PackedWeight,
  type PlannedWeight,
  PlanningSource,
  sourceBytes,
} from "./packing_plan.ts";
import type { LoadProgress } from "./parameter_source.ts";
import { checkParameters, walkParameters } from "./parameters.ts";

/** Size of the folder's parts when none is asked for. */
const PART_BYTES_DEFAULT = 1024 * 1024 * 1024;

export interface PackOptions {
  readonly folder: FileFolder;
  /** Folder to write. */
  readonly out: string;
  readonly backend: Backend;
  readonly precision: Precision;
  /** Draw weights from a seed; `folder` needs config.json only. */
  readonly synthetic?: boolean;
  readonly partBytes?: number;
  /** Called with checkpoint bytes that are done. */
  readonly onProgress?: LoadProgress;
}

export interface PackResult {
  readonly manifest: PackedManifest;
  readonly weights: readonly PackedWeight[];
  /** Parts that an earlier, interrupted run had finished. */
  readonly partsKept: number;
  readonly parts: number;
}

/** Packs a checkpoint; resumes what was interrupted and does nothing when all is there. */
export async function packModel(options: PackOptions): Promise<PackResult> {
  const { folder, out, precision } = options;
  if (!options.synthetic && folderKind(await namesIn(folder)) === "packed") {
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot pack ${folder.label}: it is packed already; give the original checkpoint`,
    );
  }
  const { checkpoint, config } = await openCheckpoint(options);
  try {
    await checkParameters(checkpoint, config);
    const plan = new PlanningSource(checkpoint, precision, config.decoder.layers);
    await walkParameters(config, plan);
    const entries = plan.weights.map(({ entry }) => entry);
    const parts = planParts(entries, options.partBytes ?? PART_BYTES_DEFAULT);
    const done = await PackedWriter.manifestOf(out);
    if (done && samePacking(done, entries, precision)) {
      const files = parts.length;
      return { manifest: done, weights: plan.report(done), partsKept: files, parts: files };
    }
    const writer = await PackedWriter.open(out, fingerprintOf({ checkpoint, precision, parts }));
    const partsKept = parts.filter((part) => writer.hasPart(part)).length;
    const run = new PackingRun(options, checkpoint, plan.weights);
    for (const part of parts) {
      if (writer.hasPart(part)) part.entries.forEach((entry) => run.skip(entry));
      else await writer.writePart(part, (entry, write) => run.write(entry, write));
    }
    const facts = {
      layout: matrixLayoutVersion,
      precision,
      parameters: checkpoint.parameterCount,
    };
    const names = (await folder.names()).filter(belongsToModel);
    const manifest = await writer.finish(facts, { folder, names });
    return { manifest, weights: plan.report(manifest), partsKept, parts: parts.length };
  } finally {
    checkpoint.close();
  }
}

/** Configuration, tokenizer, template and papers; never weights or their index. */
function belongsToModel(name: string): boolean {
  return /\.(json|jinja|txt|md)$|^(LICENSE|NOTICE)/i.test(name) &&
    !name.endsWith(".safetensors.index.json") && !/^pack(ed|ing)\.json$/.test(name);
}

function samePacking(
  manifest: PackedManifest,
  entries: readonly PackedEntry[],
  precision: Precision,
): boolean {
  return manifest.layout === matrixLayoutVersion &&
    samePrecision(manifest.precision, precision) &&
    Object.keys(manifest.tensors).length === entries.length &&
    entries.every(({ name }) => Object.hasOwn(manifest.tensors, name));
}

/** Equal for the same files and the same plan: what may be resumed. */
function fingerprintOf(packing: {
  checkpoint: Checkpoint;
  precision: Precision;
  parts: readonly unknown[];
}): string {
  const { checkpoint, precision, parts } = packing;
  const tensors = [...checkpoint.tensors.values()].map(({ name, dtype, shape, offset, source }) => [
    name,
    dtype,
    shape,
    offset,
    source.name,
    source.sizeBytes,
    source.modifiedMs ?? null,
  ]);
  const text = JSON.stringify({ layout: matrixLayoutVersion, precision, parts, tensors });
  return createHash("sha256").update(text).digest("hex");
}

/** Streams planned weights through the backend. */
class PackingRun {
  readonly #backend: Backend;
  readonly #checkpoint: Checkpoint;
  readonly #weights: ReadonlyMap<TensorName, PlannedWeight>;
  readonly #onProgress: LoadProgress | undefined;
  readonly #totalBytes: number;
  #doneBytes = 0;

  constructor(
    options: PackOptions,
    checkpoint: Checkpoint,
    weights: readonly PlannedWeight[],
  ) {
    this.#backend = options.backend;
    this.#checkpoint = checkpoint;
    this.#onProgress = options.onProgress;
    this.#weights = new Map(weights.map((weight) => [weight.entry.name, weight]));
    this.#totalBytes = weights.reduce((sum, weight) => sum + sourceBytes(weight), 0);
  }

  skip({ name }: PackedEntry): void {
    this.#advance(sourceBytes(this.#weights.get(name)!));
  }

  async write(
    { name }: PackedEntry,
    write: (bytes: Uint8Array) => Promise<void>,
  ): Promise<number> {
    const { vector, format, places } = this.#weights.get(name)!;
    if (vector) {
      const { bytes, dtype } = await readVector(this.#checkpoint, vector);
      const values = littleEndianBytes(decodeToF32(bytes, dtype));
      await write(values);
      this.#advance(values.byteLength);
      return 0;
    }
    const error = new RoundingError();
    for (const place of places) {
      if (isQuantised(format) && hasDrawnPanels(place, format)) {
        for (const { bytes } of drawnPanels(place, format)) await write(bytes);
        this.#advance(storedBytes(place));
        continue;
      }
      for await (const piece of readRows(this.#checkpoint, place)) {
        await write(await this.#pack(piece, { format, columns: place.columns, error }));
        this.#advance(piece.bytes.byteLength);
      }
    }
    return error.relative;
  }

  /** The packed bytes of one piece: the same as its panels have in the whole matrix. */
  async #pack(
    piece: FileRows,
    into: { format: MatrixFormat; columns: number; error: RoundingError },
  ): Promise<Uint8Array> {
    const { format, columns, error } = into;
    const backend = this.#backend;
    const matrix = backend.createMatrix({ format, rows: piece.rowCount, columns });
    try {
      await backend.packRows(matrix, { ...piece, firstRow: 0 });
      if (isQuantised(format)) {
        error.add(decodeToF32(piece.bytes, piece.dtype), await this.#valuesOf(matrix));
      }
      return await backend.readPanels(matrix, { firstPanel: 0, panelCount: panelCount(matrix) });
    } finally {
      backend.free(matrix);
    }
  }

  /** What the kernels see in a matrix, row after row. */
  async #valuesOf(matrix: Matrix): Promise<Float32Array> {
    const { rows: rowCount, columns: width } = matrix;
    const backend = this.#backend;
    const rowIndex = backend.allocate("i32", [rowCount]);
    const out = backend.allocate("f32", [rowCount, width]);
    try {
      backend.write(rowIndex, Int32Array.from({ length: rowCount }, (_, row) => row));
      backend.ops.gatherRows({ table: matrix, rowIndex, out });
      return await backend.read(out) as Float32Array;
    } finally {
      backend.free(out);
      backend.free(rowIndex);
    }
  }

  #advance(bytes: number): void {
    this.#doneBytes += bytes;
    this.#onProgress?.(this.#doneBytes, this.#totalBytes);
  }
}

function littleEndianBytes(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.byteLength);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return bytes;
}

/** RMS of the difference between weights and their packed values, relative to the weights' RMS. */
class RoundingError {
  #squares = 0;
  #errorSquares = 0;

  add(weights: Float32Array, packed: Float32Array): void {
    let [squares, errorSquares] = [0, 0];
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i]!;
      const difference = weight - packed[i]!;
      squares += weight * weight;
      errorSquares += difference * difference;
    }
    this.#squares += squares;
    this.#errorSquares += errorSquares;
  }

  get relative(): number {
    return this.#squares === 0 ? 0 : Math.sqrt(this.#errorSquares / this.#squares);
  }
}
