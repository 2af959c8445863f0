/**
 * Weights without the experts: what a process loads whose experts live on other nodes. Everything
 * else comes from the source behind it.
 */
import type { Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { TensorName } from "@/weights/names.ts";
import {
  type ExpertsRequest,
  type MatrixRequest,
  type ParameterSource,
  shapeOfMatrix,
  type VectorRequest,
} from "./parameter_source.ts";

export class ExpertlessSource implements ParameterSource {
  readonly #source: ParameterSource;

  constructor(source: ParameterSource) {
    this.#source = source;
  }

  has(name: TensorName): boolean {
    return this.#source.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#source.rowsOf(name);
  }

  matrix(request: MatrixRequest): Promise<Matrix> {
    return this.#source.matrix(request);
  }

  /** Right in shape, of no backend. */
  experts(request: ExpertsRequest): Promise<Matrix> {
    return Promise.resolve(shapeOfMatrix(request));
  }

  vector(request: VectorRequest): Promise<Tensor> {
    return this.#source.vector(request);
  }
}
