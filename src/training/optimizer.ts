/**
 * AdamW over all weights that learn, Muon for the decoder's matrices where wanted: decoupled decay,
 * rates by group, clipping by the global norm. Everything is computed on the backend; the norm is
 * read by whoever waits for the step.
 */
import type { Backend } from "@/kernels/backend.ts";
import { squareBlocks, type TrainingOps } from "@/kernels/training_ops.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { assert } from "@/assert.ts";
import { loraTargets } from "./lora_targets.ts";
import { Muon } from "./muon.ts";
import { emptyLike, Parameter, type ParameterSet, type ParameterStore } from "./parameter_set.ts";

export interface OptimizerOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Largest global norm of the gradient; 0: no bound. */
  readonly normMax: number;
  /** Of Muon, for the matrices of decoder layers; missing: AdamW for all. */
  readonly momentum?: number;
}

/** Rate and decay of one parameter in one step. */
export interface ParameterRate {
  readonly rate: number;
  readonly decay: number;
}

/** Running means of one parameter's gradient and, for AdamW, of its square. */
export interface Moments {
  readonly first: ParameterStore;
  readonly second?: ParameterStore;
}

/** Whether Muon may update a parameter: whole matrices of decoder layers, no experts, no router. */
function isMuonMatrix({ part, name, store, info }: Parameter): boolean {
  return part === "decoder" && store.kind === "matrix" && store.matrix.experts === 1 &&
    info.places.length > 0 && loraTargets.some((target) => target === name.split(".").at(-2));
}

export class Optimizer {
  readonly options: OptimizerOptions;
  /** Steps done. */
  stepCount = 0;
  readonly #backend: Backend;
  readonly #training: TrainingOps;
  readonly #set: ParameterSet;
  readonly #moments = new Map<Parameter, Moments>();
  /** [norm, factor that clips]. */
  readonly #norm: Tensor;
  readonly #muon: Muon | undefined;
  #partial: Tensor | undefined;

  constructor(backend: Backend, set: ParameterSet, options: OptimizerOptions) {
    assert(backend.training, "an optimiser on a backend without training ops");
    this.options = options;
    this.#backend = backend;
    this.#training = backend.training;
    this.#set = set;
    this.#norm = backend.allocate("f32", [2]);
    if (options.momentum !== undefined) this.#muon = new Muon(backend);
  }

  /** Moments of a parameter that learns; zero before its first step. */
  momentsOf(parameter: Parameter): Moments {
    let moments = this.#moments.get(parameter);
    if (moments === undefined) {
      const empty = () => emptyLike(this.#backend, parameter.store);
      const isMuon = this.#muon !== undefined && isMuonMatrix(parameter);
      moments = { first: empty(), ...!isMuon && { second: empty() } };
      this.#moments.set(parameter, moments);
    }
    return moments;
  }

  /** Records one step with the gradients that arrived, and voids them. */
  step(rateOf: (parameter: Parameter) => ParameterRate): void {
    this.stepCount++;
    this.#set.settle(this.#training);
    this.#measure();
    for (const parameter of this.#set.trainable) {
      const { first, second } = this.momentsOf(parameter);
      const rate = rateOf(parameter);
      if (second) this.#stepAdamW(parameter, { first, second }, rate);
      else this.#stepMuon(parameter, first, rate);
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
      for (const store of second ? [first, second] : [first]) {
        this.#backend.free(Parameter.floats(store));
      }
    }
    this.#moments.clear();
    this.#muon?.close();
  }

  #stepAdamW(
    { store, gradient }: Parameter,
    { first, second }: Required<Moments>,
    rate: ParameterRate,
  ): void {
    const { beta1, beta2, epsilon } = this.options;
    this.#training.adamW({
      weights: Parameter.floats(store),
      gradient: Parameter.floats(gradient!),
      first: Parameter.floats(first),
      second: Parameter.floats(second),
      norm: this.#norm,
      ...rate,
      beta1,
      beta2,
      epsilon,
      step: this.stepCount,
    });
  }

  #stepMuon({ store, gradient }: Parameter, first: ParameterStore, rate: ParameterRate): void {
    assert(gradient?.kind === "matrix" && first.kind === "matrix", `${store.kind} by Muon`);
    assert(store.kind === "matrix", `${store.kind} by Muon`);
    this.#muon!.step({
      weights: store.matrix,
      gradient: gradient.matrix,
      momentum: first.matrix,
      momentumKeep: this.options.momentum!,
      norm: this.#norm,
      ...rate,
    });
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
