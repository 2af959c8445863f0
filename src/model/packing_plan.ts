/**
 * What packing will write: every weight that the model asks for, with its format, its bytes and
 * where its values are. Reads headers only; sizes are known before anything is allocated.
 */
import type { Matrix, MatrixFormat } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import type { TensorName } from "@/weights/names.ts";
import { packedBytes, type PackedEntry, type PackedManifest } from "@/weights/packed_manifest.ts";
import { matrixFormatOf, type Precision } from "@/weights/precision.ts";
import {
  type RowsInFile,
  rowsOfExpert,
  rowsOfMatrix,
  storedBytes,
  storedFormat,
} from "./checkpoint_rows.ts";
import {
  expertsName,
  type ExpertsRequest,
  type MatrixRequest,
  type ParameterSource,
  shapeOfMatrix,
  shapeOfVector,
  type VectorRequest,
} from "./parameter_source.ts";

export interface PackedWeight {
  readonly name: TensorName;
  readonly format: MatrixFormat;
  /** A float32 vector, not a matrix. */
  readonly vector: boolean;
  readonly sizeBytes: number;
  readonly relativeError: number;
}

/** A weight to write and where its values are: one place per expert, or a vector. */
export interface PlannedWeight {
  readonly entry: PackedEntry;
  readonly format: MatrixFormat;
  readonly places: readonly RowsInFile[];
  readonly vector?: VectorRequest;
}

/** Notes what the model asks for, in the order in which it will load it. */
export class PlanningSource implements ParameterSource {
  readonly weights: PlannedWeight[] = [];
  readonly #checkpoint: Checkpoint;
  readonly #precision: Precision;
  readonly #decoderLayers: number;
  readonly #planned = new Set<string>();

  constructor(checkpoint: Checkpoint, precision: Precision, decoderLayers: number) {
    this.#checkpoint = checkpoint;
    this.#precision = precision;
    this.#decoderLayers = decoderLayers;
  }

  /** Sizes and errors of all weights, with what the manifest says of them. */
  report({ tensors }: PackedManifest): PackedWeight[] {
    return this.weights.map(({ entry: { name, sizeBytes }, format, vector }) => ({
      name,
      format,
      vector: vector !== undefined,
      sizeBytes,
      relativeError: tensors[name]!.relativeError,
    }));
  }

  has(name: TensorName): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#checkpoint.tensors.get(name)?.shape[0] ?? 0;
  }

  matrix(request: MatrixRequest): Promise<Matrix> {
    const { name } = request;
    const place = rowsOfMatrix(this.#checkpoint, request);
    const format = this.#format(name, place);
    // A tied head in the embedding's format is the embedding.
    const key = `${place.tensor.name}/${format}/${place.firstRow}/${place.rows}`;
    if (!this.#planned.has(key)) this.#plan(name, format, [place]);
    this.#planned.add(key);
    return Promise.resolve(shapeOfMatrix(request));
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    const places = Array.from(
      { length: request.experts },
      (_, expert) => rowsOfExpert(this.#checkpoint, request, expert),
    );
    const name = expertsName(request);
    this.#plan(name, this.#format(name, places[0]!), places);
    return Promise.resolve(shapeOfMatrix(request));
  }

  vector(request: VectorRequest): Promise<Tensor> {
    const { name, size } = request;
    const entry = { name, sizeBytes: 4 * size };
    this.weights.push({ entry, format: "f32", places: [], vector: request });
    return Promise.resolve(shapeOfVector(request));
  }

  #format(name: TensorName, { tensor }: RowsInFile): MatrixFormat {
    return matrixFormatOf(name, {
      precision: this.#precision,
      decoderLayers: this.#decoderLayers,
      stored: storedFormat(tensor),
    });
  }

  #plan(name: TensorName, format: MatrixFormat, places: readonly RowsInFile[]): void {
    const { rows, columns } = places[0]!;
    const matrix = { format, experts: places.length, rows, columns };
    this.weights.push({ entry: { name, sizeBytes: packedBytes(matrix), matrix }, format, places });
  }
}

/** The measure of progress: bytes in the checkpoint, float32 for vectors. */
export function sourceBytes({ places, vector, entry }: PlannedWeight): number {
  if (vector) return entry.sizeBytes;
  return places.reduce((sum, place) => sum + storedBytes(place), 0);
}
