/**
 * One optimiser step on a model: programs of its micro-batches with their gradients, then the optimiser.
 * Knows nothing of data, schedules or files. Supervised losses have their coefficients beforehand;
 * policy losses choose them by the log probabilities that a first pass gives.
 */
import type { Backend } from "@/kernels/backend.ts";
import { isSparseLayer } from "@/model/config.ts";
import { BufferPool } from "./buffer_pool.ts";
import type { CueHead } from "./cue_head.ts";
import { type CueLosses, type CuePlace, cueRecord, type StepCueLosses } from "./cues.ts";
import { Optimizer, type OptimizerOptions, type ParameterRate } from "./optimizer.ts";
import { BatchTensors, type OnVision, PackedModel, type ProgramBatch } from "./packed_forward.ts";
import type { Parameter } from "./parameter_set.ts";
import { recordRouterLosses, type RouterLossOptions, RouterStatistics } from "./router_losses.ts";
import { Tape } from "./tape.ts";
import { scoreTokens } from "./tape_rules.ts";
import type { TrainableModel } from "./training_source.ts";
import type { Tensor } from "@/tensor/tensor.ts";

export interface TrainerOptions {
  readonly backend: Backend;
  readonly model: TrainableModel;
  readonly optimizer: OptimizerOptions;
  /** Compute the inside of layers again instead of keeping it. */
  readonly checkpointing?: boolean;
  /** Of sparse models. */
  readonly router?: RouterLossOptions;
  /** Asked about tiles that have cues; their parameters are in the model's set. */
  readonly cues?: readonly CueHead[];
}

/** What one step saw. */
export interface StepResult {
  /** Of the tokens: weighted mean of -logprob, or what the policy loss said. */
  readonly loss: number;
  /** Global norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Mean entropy of the scored rows, in nats. */
  readonly entropy: number;
  /** Load balance of the experts; undefined for dense models. */
  readonly balance: number | undefined;
  /** Losses of the cues where they were asked; missing without. */
  readonly cueLosses?: StepCueLosses;
  readonly rows: number;
  readonly scoredTokens: number;
  /** Of each batch, where asked for: the most likely token of each scored row. */
  readonly greedy: readonly Int32Array[] | undefined;
}

/** Log probabilities and entropies of a batch's scored rows. */
export interface TokenScore {
  readonly logprobs: Float32Array;
  readonly entropies: Float32Array;
}

/** A loss on log probabilities: its value, and its derivative by each of them. */
export type PolicyLoss = (
  batch: ProgramBatch,
  logprobs: Float32Array,
) => { readonly loss: number; readonly slopes: Float32Array };

interface ProgramResult extends TokenScore {
  readonly greedy: Int32Array | undefined;
}

type Read = () => Promise<ProgramResult>;

interface ProgramOptions {
  /** Chooses the slopes of the loss; `read` gives the scores where they come early. */
  readonly slopesOf: (read: () => Promise<TokenScore>) => Promise<Float32Array>;
  /** Compute the scores before the slopes are chosen. */
  readonly early?: boolean;
  readonly greedy?: boolean;
  /** The cues of the step. */
  readonly cues?: CueStep;
}

export class Trainer {
  readonly model: TrainableModel;
  readonly optimizer: Optimizer;
  readonly #options: TrainerOptions;
  readonly #pool: BufferPool;
  readonly #packed: PackedModel;
  readonly #statistics: RouterStatistics | undefined;

  constructor(options: TrainerOptions) {
    const { backend, model } = options;
    this.#options = options;
    this.model = model;
    this.#pool = new BufferPool(backend);
    this.#packed = new PackedModel(model, backend);
    this.optimizer = new Optimizer(backend, model.set, options.optimizer);
    const { decoder } = model.config;
    const isSparse = model.parameters.decoder.layers.some((_, i) => isSparseLayer(decoder, i));
    if (isSparse) this.#statistics = new RouterStatistics(decoder.moe!.experts);
  }

  /**
   * Cross-entropy: the sum over all micro-batches divided by their summed weights. With `greedy` it
   * also says what the model would have said.
   */
  async step(
    batches: readonly ProgramBatch[],
    rateOf: (parameter: Parameter) => ParameterRate,
    { greedy = false }: { greedy?: boolean } = {},
  ): Promise<StepResult> {
    const total = sum(batches.flatMap(({ weights }) => [...weights]));
    const reads: Read[] = [];
    const cues = new CueStep(this.#options.cues, batches);
    for (const batch of batches) {
      const slopes = batch.weights.map((weight) => -weight / total);
      const slopesOf = () => Promise.resolve(slopes);
      reads.push(await this.#program(batch, { slopesOf, greedy, cues }));
    }
    this.optimizer.step(rateOf);
    const cueLosses = await cues.losses();
    const scores = await this.#finish(reads);
    const losses = scores.map(({ logprobs }, i) =>
      sum(logprobs.map((logprob, j) => -logprob * batches[i]!.weights[j]!))
    );
    const result = await this.#result(batches, scores, sum(losses) / total);
    return { ...result, ...cueLosses && { cueLosses } };
  }

  /** A loss that depends on the model's own log probabilities. */
  async policyStep(
    batches: readonly ProgramBatch[],
    policyLoss: PolicyLoss,
    rateOf: (parameter: Parameter) => ParameterRate,
  ): Promise<StepResult> {
    const reads: Read[] = [];
    let loss = 0;
    for (const batch of batches) {
      const slopesOf = async (read: () => Promise<TokenScore>) => {
        const judged = policyLoss(batch, (await read()).logprobs);
        loss += judged.loss;
        return judged.slopes;
      };
      reads.push(await this.#program(batch, { slopesOf, early: true }));
    }
    this.optimizer.step(rateOf);
    return await this.#result(batches, await this.#finish(reads), loss);
  }

  /** Scores of a batch, without gradients. */
  async score(batch: ProgramBatch): Promise<TokenScore> {
    const { backend, model } = this.#options;
    const tensors = new BatchTensors(backend);
    const tape = this.#tape();
    const logits = await this.#packed.forward(tape, { batch, tensors });
    const { input, weight } = tape.takeDeferred(logits);
    const outs = scoreTensors(batch, tensors);
    const target = tensors.i32(batch.targets);
    tape.training.headLogprobs({ input: tape.data(input), weight, target, ...outs });
    tape.discard();
    const scores = await readScores(backend, outs);
    tensors.free();
    model.set.clear();
    return scores;
  }

  close(): void {
    this.#packed.close();
    this.#pool.close();
    this.optimizer.close();
  }

  #tape(): Tape {
    const { backend, model, checkpointing = false } = this.#options;
    const { parameters: { decoder: { head } }, set: parameters } = model;
    return new Tape({ backend, pool: this.#pool, parameters, head, checkpointing });
  }

  /** Records a batch's program with its gradients; returns how to read its scores. */
  async #program(
    batch: ProgramBatch,
    { slopesOf, early = false, greedy = false, cues }: ProgramOptions,
  ): Promise<Read> {
    const { backend } = this.#options;
    const tensors = new BatchTensors(backend);
    const tape = this.#tape();
    const onVision: OnVision = (place, features) =>
      cues?.record(tape, { place, features, batch, tensors });
    const logits = await this.#packed.forward(tape, { batch, tensors, onVision });
    const outs = scoreTensors(batch, tensors);
    const coefficient = tensors.f32(new Float32Array(batch.targets.length));
    const target = tensors.i32(batch.targets);
    const ids = greedy ? tensors.i32(new Int32Array(batch.targets.length)) : undefined;
    const views = { logits, target, coefficient, ...outs };
    scoreTokens(tape, views, { early, ...ids && { greedy: { ids, tensors } } });
    const read = () => readScores(backend, outs);
    // Nothing that is recorded reads the coefficients yet.
    if (batch.targets.length > 0) backend.write(coefficient, await slopesOf(read));
    await this.#routerLosses(tape, batch, tensors);
    tape.backward();
    return async () => {
      const scores = await read();
      const greedy = ids && await backend.read(ids) as Int32Array;
      tensors.free();
      return { ...scores, greedy };
    };
  }

  async #routerLosses(tape: Tape, batch: ProgramBatch, tensors: BatchTensors): Promise<void> {
    if (this.#statistics === undefined) return;
    const { router = { balance: 0, z: 0 } } = this.#options;
    const rowWeights = new Float32Array(batch.tokenIds.length).fill(1);
    const statistics = this.#statistics;
    await recordRouterLosses(tape, { ...router, statistics, tensors, rowWeights });
  }

  async #finish(reads: readonly Read[]): Promise<ProgramResult[]> {
    const scores: ProgramResult[] = [];
    for (const read of reads) scores.push(await read());
    return scores;
  }

  async #result(
    batches: readonly ProgramBatch[],
    scores: readonly ProgramResult[],
    loss: number,
  ): Promise<StepResult> {
    const scoredTokens = sum(batches.map(({ targets }) => targets.length));
    const entropy = sum(scores.map(({ entropies }) => sum(entropies)));
    const balance = this.#statistics?.balanceLoss;
    this.#statistics?.reset();
    const greedy = scores.flatMap(({ greedy }) => greedy ?? []);
    return {
      loss,
      greedy: greedy.length > 0 ? greedy : undefined,
      gradientNorm: await this.optimizer.readNorm(),
      entropy: entropy / Math.max(1, scoredTokens),
      balance,
      rows: sum(batches.map(({ tokenIds }) => tokenIds.length)),
      scoredTokens,
    };
  }
}

/** The cues of one step: the mean over the tiles of all batches. */
class CueStep {
  readonly #heads: readonly CueHead[];
  readonly #tiles: number;
  readonly #reads: {
    readonly place: CuePlace;
    readonly share: number;
    readonly read: () => Promise<CueLosses>;
  }[] = [];

  constructor(heads: readonly CueHead[] = [], batches: readonly ProgramBatch[]) {
    this.#heads = heads;
    this.#tiles = sum(batches.map(({ cues = [] }) => cues.length));
  }

  record(
    tape: Tape,
    { place, features, batch, tensors }: {
      place: CuePlace;
      features: Tensor;
      batch: ProgramBatch;
      tensors: BatchTensors;
    },
  ): void {
    const { cues: answers = [] } = batch;
    const head = this.#heads.find((one) => one.place === place);
    if (!head || answers.length === 0) return;
    const share = answers.length / this.#tiles;
    const read = head.record(tape, { features, answers, share, tensors });
    this.#reads.push({ place, share, read });
  }

  /** Undefined when nothing was asked. Waits for the step, before its tensors are freed. */
  async losses(): Promise<StepCueLosses | undefined> {
    if (this.#reads.length === 0) return undefined;
    const losses: Partial<Record<CuePlace, CueLosses>> = {};
    for (const { place, share, read } of this.#reads) {
      const [before, own] = [losses[place], await read()];
      losses[place] = cueRecord((kind) => (before?.[kind] ?? 0) + share * own[kind]);
    }
    return losses;
  }
}

function scoreTensors(batch: ProgramBatch, tensors: BatchTensors) {
  const empty = new Float32Array(batch.targets.length);
  return { logprob: tensors.f32(empty), entropy: tensors.f32(empty) };
}

async function readScores(
  backend: Backend,
  outs: ReturnType<typeof scoreTensors>,
): Promise<TokenScore> {
  const logprobs = await backend.read(outs.logprob) as Float32Array;
  return { logprobs, entropies: await backend.read(outs.entropy) as Float32Array };
}

/** In order, in float64. */
function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
