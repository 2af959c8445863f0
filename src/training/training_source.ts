/**
 * Weights for training: every tensor of a checkpoint as float32 on the backend, each once (a tied
 * head is the embedding itself), with the place it came from, so that it can be written back.
 */
import type { Backend, FileRows, Matrix } from "@/kernels/backend.ts";
import {
  type FloatDType,
  readRows,
  readVector,
  type RowsInFile,
  rowsOfExpert,
  rowsOfMatrix,
} from "@/model/checkpoint_rows.ts";
import type { ModelConfig } from "@/model/config.ts";
import {
  expertsName,
  type ExpertsRequest,
  type MatrixRequest,
  type ParameterSource,
  type VectorRequest,
} from "@/model/parameter_source.ts";
import { checkParameters, type Parameters, walkParameters } from "@/model/parameters.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import type { TensorName } from "@/weights/names.ts";
import { Parameter, ParameterSet, type StoredPlace } from "./parameter_set.ts";

/** A model whose weights can learn. */
export interface TrainableModel {
  readonly config: ModelConfig;
  readonly parameters: Parameters;
  readonly set: ParameterSet;
}

/** Checks a checkpoint, then loads it for training; all weights are frozen until chosen. */
export async function loadTrainable(
  options: { checkpoint: Checkpoint; config: ModelConfig; backend: Backend },
): Promise<TrainableModel> {
  const { checkpoint, config, backend } = options;
  await checkParameters(checkpoint, config);
  const source = new TrainingSource(checkpoint, backend);
  const parameters = await walkParameters(config, source);
  return { config, parameters, set: new ParameterSet(source.parameters) };
}

class TrainingSource implements ParameterSource {
  readonly parameters: Parameter[] = [];
  readonly #checkpoint: Checkpoint;
  readonly #backend: Backend;
  readonly #matrices = new Map<string, Matrix>();

  constructor(checkpoint: Checkpoint, backend: Backend) {
    this.#checkpoint = checkpoint;
    this.#backend = backend;
  }

  has(name: TensorName): boolean {
    return this.#checkpoint.tensors.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#checkpoint.tensors.get(name)?.shape[0] ?? 0;
  }

  async matrix(request: MatrixRequest): Promise<Matrix> {
    const { name, rows, columns, stored } = request;
    const place = { name: stored?.name ?? name, first: stored?.firstRow ?? 0, rows };
    const key = `${place.name}/${place.first}`;
    const made = this.#matrices.get(key);
    if (made) return made;
    const matrix = this.#backend.createMatrix({ format: "f32", rows, columns });
    await this.#pack(matrix, rowsOfMatrix(this.#checkpoint, request));
    this.#matrices.set(key, matrix);
    const whole = { ...place, rows: stored?.rows ?? rows };
    this.#keepMatrix(name, [whole], matrix);
    return matrix;
  }

  async experts(request: ExpertsRequest): Promise<Matrix> {
    const { rows, columns, experts } = request;
    const matrix = this.#backend.createMatrix({ format: "f32", rows, columns, experts });
    const places: StoredPlace[] = [];
    for (let expert = 0; expert < experts; expert++) {
      const place = rowsOfExpert(this.#checkpoint, request, expert);
      await this.#pack(matrix, place, expert);
      const wholeRows = place.tensor.shape.slice(0, -1).reduce((a, b) => a * b, 1);
      const name = this.#canonicalName(place);
      places.push({ name, first: place.firstRow, rows: wholeRows });
    }
    this.#keepMatrix(expertsName(request), places, matrix);
    return matrix;
  }

  async vector(request: VectorRequest): Promise<Tensor> {
    const { name, size, stored } = request;
    const { bytes, dtype } = await readVector(this.#checkpoint, request);
    const tensor = this.#backend.allocate("f32", [size]);
    this.#backend.write(tensor, decodeToF32(bytes, dtype));
    const place = stored
      ? { name: stored.name, first: stored.first, rows: stored.size }
      : { name, first: 0, rows: size };
    this.parameters.push(new Parameter({ name, places: [place] }, { kind: "tensor", tensor }));
    return tensor;
  }

  #keepMatrix(name: TensorName, places: readonly StoredPlace[], matrix: Matrix): void {
    this.parameters.push(new Parameter({ name, places }, { kind: "matrix", matrix }));
  }

  #canonicalName({ tensor }: RowsInFile): TensorName {
    for (const [name, other] of this.#checkpoint.tensors) if (other === tensor) return name;
    throw new RangeError(`Checkpoint ${this.#checkpoint.label} does not list ${tensor.name}`);
  }

  async #pack(matrix: Matrix, place: RowsInFile, expert = 0): Promise<void> {
    for await (const piece of readRows(this.#checkpoint, place)) {
      await this.#backend.packRows(matrix, { ...piece, expert });
    }
  }
}

/** Float32 values as rows of a file. */
export function floatRows(values: Float32Array, firstRow: number, rowCount: number): FileRows {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const dtype: FloatDType = "F32";
  return { firstRow, rowCount, bytes, dtype };
}
