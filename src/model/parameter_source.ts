/**
 * What the architecture walk of `parameters.ts` asks for its weights, whoever answers: a checking
 * pass, a checkpoint, a packed folder, or the plan of a packing.
 */
import type { Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { TensorName } from "@/weights/names.ts";

/** A weight [rows, columns] by the name that the model gives it. */
export interface MatrixRequest {
  readonly name: TensorName;
  readonly rows: number;
  readonly columns: number;
  /** Where checkpoints keep it when not under its name: rows from `firstRow` of `rows` in all. */
  readonly stored?: { readonly name: TensorName; readonly firstRow: number; readonly rows: number };
}

/** One projection of all experts of a layer: [experts, rows, columns]. */
export interface ExpertsRequest {
  readonly layer: number;
  readonly part: "gate" | "up" | "down";
  readonly rows: number;
  readonly columns: number;
  readonly experts: number;
}

export interface VectorRequest {
  readonly name: TensorName;
  readonly size: number;
  /** Where checkpoints keep it when not under its name: from element `first` of `size` in all. */
  readonly stored?: { readonly name: TensorName; readonly first: number; readonly size: number };
}

/** Where the architecture walk gets its weights from. */
export interface ParameterSource {
  has(name: TensorName): boolean;
  /** Rows of a 2-D tensor, 0 when missing. */
  rowsOf(name: TensorName): number;
  matrix(request: MatrixRequest): Promise<Matrix>;
  experts(request: ExpertsRequest): Promise<Matrix>;
  vector(request: VectorRequest): Promise<Tensor>;
}

/** Called as weights arrive, for progress lines. */
export type LoadProgress = (doneBytes: number, totalBytes: number) => void;

/** Name of one expert's weight in a checkpoint. */
export function expertName(request: ExpertsRequest, expert: number): TensorName {
  return `decoder.${request.layer}.experts.${expert}.${request.part}.weight`;
}

/** Name of the stacked weights of all experts. */
export function expertsName({ layer, part }: Pick<ExpertsRequest, "layer" | "part">): TensorName {
  return `decoder.${layer}.experts.${part}`;
}

const noStorage = { sizeBytes: 0 };

/** Answers of passes that make nothing: right in shape, of no backend. */
export function shapeOfMatrix(
  request: { rows: number; columns: number; experts?: number },
): Matrix {
  const { rows, columns, experts = 1 } = request;
  return { format: "f32", experts, rows, columns, storage: noStorage };
}

/** See `shapeOfMatrix`. */
export function shapeOfVector({ size }: { size: number }): Tensor {
  return { dtype: "f32", shape: [size], storage: noStorage, byteOffset: 0 };
}
