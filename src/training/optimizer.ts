/**
 * AdamW over all weights that learn: decoupled decay, rates by group, clipping by the global norm.
 * Everything is computed on the backend; the norm is read by whoever waits for the step.
 */
import type { Backend } from "@/kernels/backend.ts";
import { squareBlocks, type TrainingOps } from "@/kernels/training_ops.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { assert } from "@/assert.ts";
import { emptyLike, Parameter, type ParameterSet, type ParameterStore } from "./parameter_set.ts";

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Largest global norm of the gradient; 0: no bound. */
  readonly normMax: number;
}

/** Rate and decay of one parameter in one step. */
export interface ParameterRate {
  readonly rate: number;
  readonly decay: number;
}

/** Running means of one parameter's gradient and of its square. */
export interface Moments {
  readonly first: ParameterStore;
  readonly second: ParameterStore;
}

export class AdamW {
  readonly options: AdamWOptions;
  /** Steps done. */
  stepCount = 0;
  readonly #backend: Backend;
  readonly #training: TrainingOps;
  readonly #set: ParameterSet;
  readonly #moments = new Map<Parameter, Moments>();
  /** [norm, factor that clips]. */
  readonly #norm: Tensor;
  #partial: Tensor | undefined;

  constructor(backend: Backend, set: ParameterSet, options: AdamWOptions) {
    assert(backend.training, "an optimiser on a backend without training ops");
    this.options = options;
    this.#backend = backend;
    this.#training = backend.training;
    this.#set = set;
    this.#norm = backend.allocate("f32", [2]);
  }

  /** Moments of a parameter that learns; zero before its first step. */
  momentsOf(parameter: Parameter): Moments {
    let moments = this.#moments.get(parameter);
    if (moments === undefined) {
      moments = {
        first: emptyLike(this.#backend, parameter.store),
        second: emptyLike(this.#backend, parameter.store),
      };
      this.#moments.set(parameter, moments);
    }
    return moments;
  }

  /** Records one step with the gradients that arrived, and voids them. */
  step(rateOf: (parameter: Parameter) => ParameterRate): void {
    const { beta1, beta2, epsilon } = this.options;
    this.stepCount++;
    this.#set.settle(this.#training);
    this.#measure();
    for (const parameter of this.#set.trainable) {
      const { first, second } = this.momentsOf(parameter);
      this.#training.adamW({
        weights: Parameter.floats(parameter.store),
        gradient: Parameter.floats(parameter.gradient!),
        first: Parameter.floats(first),
        second: Parameter.floats(second),
        norm: this.#norm,
        ...rateOf(parameter),
        beta1,
        beta2,
        epsilon,
        step: this.stepCount,
      });
    }
    this.#set.clear();
  }

  /** Global norm of the last step's gradient, before clipping. Waits for the step. */
  async readNorm(): Promise<number> {
    return (await this.#backend.read(this.#norm))[0]!;
  }

  close(): void {
    const tensors = [this.#norm, ...this.#partial ? [this.#partial] : []];
    for (const tensor of tensors) this.#backend.free(tensor);
    for (const { first, second } of this.#moments.values()) {
      for (const store of [first, second]) this.#backend.free(Parameter.floats(store));
    }
    this.#moments.clear();
  }

  #measure(): void {
    const { trainable } = this.#set;
    const blocksOf = (parameter: Parameter) =>
      squareBlocks(Parameter.floats(parameter.gradient!).storage.sizeBytes / 4);
    const blocks = trainable.reduce((sum, parameter) => sum + blocksOf(parameter), 0);
    if (this.#partial?.shape[0] !== blocks) {
      if (this.#partial) this.#backend.free(this.#partial);
      this.#partial = this.#backend.allocate("f32", [blocks]);
    }
    let at = 0;
    for (const parameter of trainable) {
      const count = blocksOf(parameter);
      const partial = { ...this.#partial, shape: [count], byteOffset: 4 * at };
      this.#training.squareSums({ input: Parameter.floats(parameter.gradient!), partial });
      at += count;
    }
    const { normMax } = this.options;
    this.#training.clipFactor({ partial: this.#partial, normMax, norm: this.#norm });
  }
}
