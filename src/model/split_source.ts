/** Weights for two backends: each request goes to the source of the backend that holds the part. */
import type { Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { TensorName } from "@/weights/names.ts";
import {
  expertsName,
  type ExpertsRequest,
  type LoadProgress,
  type MatrixRequest,
  type ParameterSource,
  type VectorRequest,
} from "./parameter_source.ts";
import { type HostParts, isOnHost } from "./host_parts.ts";

export class SplitSource implements ParameterSource {
  readonly #device: ParameterSource;
  readonly #host: ParameterSource;
  readonly #parts: HostParts;

  constructor(args: { device: ParameterSource; host: ParameterSource; parts: HostParts }) {
    this.#device = args.device;
    this.#host = args.host;
    this.#parts = args.parts;
  }

  has(name: TensorName): boolean {
    return this.#device.has(name);
  }

  rowsOf(name: TensorName): number {
    return this.#device.rowsOf(name);
  }

  matrix(request: MatrixRequest): Promise<Matrix> {
    return this.#holder(request.name).matrix(request);
  }

  experts(request: ExpertsRequest): Promise<Matrix> {
    return this.#holder(expertsName(request)).experts(request);
  }

  vector(request: VectorRequest): Promise<Tensor> {
    return this.#holder(request.name).vector(request);
  }

  #holder(name: TensorName): ParameterSource {
    return isOnHost(this.#parts, name) ? this.#host : this.#device;
  }
}

/** Gives each source of one load a progress to tell, and tells their sum. */
export function joinedProgress(
  onProgress: LoadProgress | undefined,
  totalBytes: () => number,
): () => LoadProgress {
  const done: number[] = [];
  return () => {
    const source = done.push(0) - 1;
    return (doneBytes) => {
      done[source] = doneBytes;
      onProgress?.(done.reduce((sum, bytes) => sum + bytes, 0), totalBytes());
    };
  };
}
