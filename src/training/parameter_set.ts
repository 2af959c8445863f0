/**
 * The weights of a model that is trained: names, gradients, and which of them learn. Frozen ones
 * have neither gradient nor moments.
 */
import { assert } from "@/assert.ts";
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { FloatStore, GradientTarget, TrainingOps } from "@/kernels/training_ops.ts";
import { elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";

/** A part that learns or is frozen as a whole; `cues` is the head of `cue_head.ts`. */
export type ModelPart = "vision" | "adapter" | "decoder" | "cues";

export type ParameterStore =
  | { readonly kind: "matrix"; readonly matrix: Matrix }
  | { readonly kind: "tensor"; readonly tensor: Tensor };

/** Where the model's weight lies in a checkpoint in Hugging Face layout. */
export interface StoredPlace {
  /** Canonical name of the stored tensor, see `weights/names.ts`. */
  readonly name: string;
  /** First row (first element of a vector) inside it. */
  readonly first: number;
  /** Rows (elements) of the whole stored tensor. */
  readonly rows: number;
}

export interface ParameterInfo {
  /** The model's own name for it, unique. */
  readonly name: string;
  /** One place, or one for each expert; none for what is no part of the model. */
  readonly places: readonly StoredPlace[];
}

/** One weight with what training keeps beside it. */
export class Parameter {
  readonly info: ParameterInfo;
  readonly store: ParameterStore;
  /** Of the store's kind and shape; missing while frozen. */
  gradient: ParameterStore | undefined;
  /** Whether the gradient holds anything since the last step. */
  hasGradient = false;

  constructor(info: ParameterInfo, store: ParameterStore) {
    this.info = info;
    this.store = store;
  }

  get name(): string {
    return this.info.name;
  }

  get part(): ModelPart {
    const part = this.name.split(".")[0];
    assert(isModelPart(part), `part of ${this.name}`);
    return part;
  }

  /** Weights without padding. */
  get size(): number {
    const { store } = this;
    if (store.kind === "tensor") return elementCount(store.tensor.shape);
    return store.matrix.experts * store.matrix.rows * store.matrix.columns;
  }

  /** What the optimiser updates, and a gradient's memory. */
  static floats(store: ParameterStore): FloatStore {
    return store.kind === "matrix" ? store.matrix : store.tensor;
  }
}

function isModelPart(part: string | undefined): part is ModelPart {
  return part === "vision" || part === "adapter" || part === "decoder" || part === "cues";
}

/** A low-rank addition to a frozen weight: y += scale * (x * down^T) * up^T. */
export interface LowRank {
  /** [rank, K] */
  readonly down: Matrix;
  /** [N, rank] */
  readonly up: Matrix;
  readonly scale: number;
}

/** A store of the same kind and shape, zero-filled. */
export function emptyLike(backend: Backend, store: ParameterStore): ParameterStore {
  if (store.kind === "tensor") {
    return { kind: "tensor", tensor: backend.allocate("f32", store.tensor.shape) };
  }
  const { rows, columns, experts } = store.matrix;
  const matrix = backend.createMatrix({ format: "f32", rows, columns, experts });
  return { kind: "matrix", matrix };
}

export class ParameterSet {
  readonly parameters: readonly Parameter[];
  readonly #byStorage = new Map<Storage, Parameter>();
  readonly #lowRank = new Map<Storage, LowRank>();

  constructor(parameters: readonly Parameter[]) {
    this.parameters = parameters;
    for (const parameter of parameters) {
      const { storage } = Parameter.floats(parameter.store);
      assert(!this.#byStorage.has(storage), `${parameter.name} shares its storage`);
      this.#byStorage.set(storage, parameter);
    }
  }

  /** Those that learn, in order. */
  get trainable(): readonly Parameter[] {
    return this.parameters.filter(({ gradient }) => gradient !== undefined);
  }

  /** Gives gradients to the parameters that `learns` names; frees those of the others. */
  choose(backend: Backend, learns: (parameter: Parameter) => boolean): void {
    for (const parameter of this.parameters) {
      const wanted = learns(parameter);
      if (wanted === (parameter.gradient !== undefined)) continue;
      if (parameter.gradient) backend.free(Parameter.floats(parameter.gradient));
      parameter.gradient = wanted ? emptyLike(backend, parameter.store) : undefined;
      parameter.hasGradient = false;
    }
  }

  isTrainable({ storage }: FloatStore): boolean {
    return this.#byStorage.get(storage)?.gradient !== undefined;
  }

  /** Where an op adds its gradient of a matrix; undefined when that is frozen. */
  matrixTarget(matrix: Matrix): { matrix: Matrix; accumulate: boolean } | undefined {
    const parameter = this.#byStorage.get(matrix.storage);
    if (parameter?.gradient?.kind !== "matrix") return undefined;
    const accumulate = parameter.hasGradient;
    parameter.hasGradient = true;
    return { matrix: parameter.gradient.matrix, accumulate };
  }

  tensorTarget(tensor: Tensor): GradientTarget | undefined {
    const parameter = this.#byStorage.get(tensor.storage);
    if (parameter?.gradient?.kind !== "tensor") return undefined;
    const accumulate = parameter.hasGradient;
    parameter.hasGradient = true;
    return { tensor: { ...parameter.gradient.tensor, shape: tensor.shape }, accumulate };
  }

  attachLowRank(weight: Matrix, addition: LowRank): void {
    this.#lowRank.set(weight.storage, addition);
  }

  lowRankOf(weight: Matrix): LowRank | undefined {
    return this.#lowRank.get(weight.storage);
  }

  /** Gradients become zero where nothing arrived; all of them are void afterwards. */
  settle(training: TrainingOps): void {
    for (const { gradient, hasGradient } of this.trainable) {
      if (!hasGradient) training.fill({ out: Parameter.floats(gradient!), value: 0 });
    }
  }

  /** The next gradient to arrive overwrites. */
  clear(): void {
    for (const parameter of this.parameters) parameter.hasGradient = false;
  }

  /** Frees weights and gradients. */
  close(backend: Backend): void {
    this.choose(backend, () => false);
    for (const { store } of this.parameters) backend.free(Parameter.floats(store));
  }
}
