/**
 * Reinforcement: a step asks questions on the serving engine with the trainer's own weights, rewards
 * the answers, and makes a few updates of the policy on what teaches something. Driven by
 * `training_run.ts`; which questions are worth asking is decided before the first step.
 */
import type { Clock } from "@/clock.ts";
import { hashText } from "@/data/dice.ts";
import type { MixtureCursor } from "@/data/stream/mixture.ts";
import { OperatingError } from "@/errors.ts";
import { isSparseLayer } from "@/model/config.ts";
import { hashWords } from "@/random.ts";
import { rateFactor } from "./control/rate_schedule.ts";
import { dapoOptions, gspoOptions } from "./policy/policy_loss.ts";
import type { ThoughtJudge } from "./policy/thought_judge.ts";
import { filterQuestions } from "./question_choice.ts";
import { rateSchedule, type ReinforcementRecipe } from "./recipes/recipe.ts";
import {
  groupOptions,
  questionMaking,
  type ReinforcementOptions,
} from "./reinforcement_setting.ts";
import { sampleGroups, type Sampling, weighAnswers } from "./rollouts/answer_groups.ts";
import { RewardJudge } from "./rollouts/answer_judge.ts";
import type { DifficultyState } from "./rollouts/difficulty_filter.ts";
import {
  type LossForTokens,
  type PolicyFigures,
  PolicyMinibatch,
  type WeighedAnswer,
} from "./rollouts/policy_minibatch.ts";
import { MixtureQuestions, PoolQuestions } from "./rollouts/question_source.ts";
import { samplingFigures } from "./rollouts/sampling_figures.ts";
import { answererOf } from "./rollouts/trainable_answerer.ts";
import type { ResumedRun } from "./run_checkpoint.ts";
import type { StepFigures } from "./run_log.ts";
import { parameterRate, type RunSetting } from "./run_setting.ts";
import { mixtureSources } from "./stage_samples.ts";
import type { StepResult } from "./trainer.ts";
import type { RunDriver } from "./training_run.ts";

/** Rows of one micro-batch of an update. */
const MICRO_BATCH_ROWS = 2048;

/** What a checkpoint keeps; JSON. */
interface ReinforcementState {
  readonly stepsDone: number;
  readonly judge: string;
  /** Place in the mixture; without a difficulty filter. */
  readonly cursor?: MixtureCursor;
  /** Questions that the filter kept, and how many of them were asked. */
  readonly difficulty?: DifficultyState;
  readonly drawn?: number;
}

type Questions = MixtureQuestions | PoolQuestions;

export class ReinforcementDriver implements RunDriver {
  readonly #options: ReinforcementOptions;
  readonly #questions: Questions;
  readonly #difficulty: DifficultyState | undefined;
  #stepsDone: number;

  /** At the beginning, with what the filter found if there was one, or at a checkpoint's state. */
  constructor(
    options: ReinforcementOptions,
    start: { readonly difficulty?: DifficultyState | undefined; readonly state?: unknown } = {},
  ) {
    const state = start.state as ReinforcementState | undefined;
    if (state && state.judge !== options.judge.name) {
      throw new OperatingError(
        "invalid_request",
        `Cannot go on: answers were judged by ${state.judge}, now by ${options.judge.name}`,
      );
    }
    this.#options = options;
    this.#stepsDone = state?.stepsDone ?? 0;
    this.#difficulty = state?.difficulty ?? start.difficulty;
    const making = questionMaking(options);
    if (this.#difficulty === undefined) {
      this.#questions = new MixtureQuestions(
        mixtureSources(options.recipe.data),
        making,
        state?.cursor,
      );
    } else {
      this.#questions = new PoolQuestions(poolOf(this.#difficulty), making, state?.drawn);
    }
  }

  get stepsDone(): number {
    return this.#stepsDone;
  }

  get state(): ReinforcementState {
    const questions = this.#questions;
    return {
      stepsDone: this.#stepsDone,
      judge: this.#options.judge.name,
      ...questions instanceof MixtureQuestions && { cursor: questions.cursor },
      ...questions instanceof PoolQuestions &&
        { difficulty: this.#difficulty!, drawn: questions.drawn },
    };
  }

  async step(): Promise<StepFigures> {
    const { recipe, clock } = this.#options;
    const startMs = clock.nowMs();
    const sampling = await this.#sample();
    const answerSeconds = (clock.nowMs() - startMs) / 1000;
    // Warm-up starts above 0: a step of answers is too dear to learn nothing from.
    const factor = rateFactor(rateSchedule(recipe), this.#stepsDone + 1);
    const rate = recipe.optimizer.peakRate * factor;
    const updates = await this.#learn(sampling, rate);
    const isFirst = this.#stepsDone++ === 0;
    return {
      rate,
      ...updateFigures(updates),
      ...samplingFigures(sampling),
      answerSeconds,
      ...isFirst && this.#difficulty && { difficulty: summaryOf(this.#difficulty) },
    };
  }

  async #sample(): Promise<Sampling> {
    const { recipe } = this.#options;
    let number = 0;
    return await sampleGroups({
      ...groupOptions(this.#options),
      wanted: recipe.promptsPerStep,
      resampleMax: recipe.resampleMax,
      draw: () => {
        const words = [recipe.data.seed, hashText("answers"), this.#stepsDone, number++];
        return { question: this.#questions.next().question, seed: hashWords(...words) };
      },
    });
  }

  /** Updates on parts of the groups, one after the other; each group stays whole. */
  async #learn({ kept }: Sampling, rate: number): Promise<Update[]> {
    const { recipe, trainer } = this.#options;
    const { answerTokensMax: tokensMax, overlongBufferTokens: bufferTokens } = recipe;
    const updates: Update[] = [];
    for (const groups of partsOf(kept, recipe.updatesPerStep)) {
      const answers: WeighedAnswer[] = groups.flatMap((group) =>
        weighAnswers(group, { tokensMax, bufferTokens })
      );
      const minibatch = new PolicyMinibatch(answers, {
        rowsMax: MICRO_BATCH_ROWS,
        lossOf: this.#lossOf,
      });
      const { batches, loss } = minibatch;
      const result = await trainer.policyStep(
        batches,
        loss,
        (parameter) => parameterRate(recipe, parameter, rate),
      );
      updates.push({ result, figures: minibatch.figures });
    }
    return updates;
  }

  /**
   * DAPO with the recipe's bounds. GSPO's ratio is a mean over the answer and moves far less: where
   * the model chose it, its bounds are those of its paper, where the recipe did, the recipe's.
   */
  readonly #lossOf: LossForTokens = (tokens) => {
    const { recipe: { algorithm, clip: { low, high } }, isSparse } = this.#options;
    if (algorithm === "gspo") return gspoOptions(low, high);
    if (algorithm === "auto" && isSparse) return gspoOptions();
    const dapo = dapoOptions(tokens);
    return { ...dapo, objective: { kind: "clip", low, high, dual: 3 } };
  };
}

interface Update {
  readonly result: StepResult;
  readonly figures: PolicyFigures;
}

/** Means over the updates; zeros when no group taught anything. */
function updateFigures(updates: readonly Update[]) {
  const mean = (value: (update: Update) => number) =>
    updates.reduce((sum, update) => sum + value(update), 0) / Math.max(1, updates.length);
  const total = (value: (update: Update) => number) =>
    updates.reduce((sum, update) => sum + value(update), 0);
  const [first] = updates;
  return {
    loss: mean(({ result }) => result.loss),
    gradientNorm: mean(({ result }) => result.gradientNorm),
    entropy: mean(({ result }) => result.entropy),
    ...first?.result.balance !== undefined && { balance: mean(({ result }) => result.balance!) },
    rows: total(({ result }) => result.rows),
    scoredTokens: total(({ result }) => result.scoredTokens),
    clipFraction: mean(({ figures }) => figures.clipFraction),
    approximateKl: mean(({ figures }) => figures.approximateKl),
    updates: updates.length,
    // Before the first update both have the same weights.
    ...first && { samplingDrift: first.figures.drift },
  };
}

/** `count` parts of nearly the same size, fewer when there are not as many items. */
function partsOf<T>(items: readonly T[], count: number): T[][] {
  const parts = Math.min(count, items.length);
  return Array.from({ length: parts }, (_, i) => {
    const [from, to] = [i, i + 1].map((at) => Math.round(at * items.length / parts));
    return items.slice(from, to);
  });
}

function poolOf(difficulty: DifficultyState) {
  if (difficulty.kept.length > 0) return difficulty.kept;
  const { examined, tooEasy, tooHard } = difficulty;
  throw new OperatingError(
    "invalid_request",
    `Cannot train on ${examined} questions: ${tooEasy} are always answered rightly, ` +
      `${tooHard} never`,
  );
}

function summaryOf({ kept, examined, tooEasy, tooHard }: DifficultyState) {
  return { kept: kept.length, examined, tooEasy, tooHard };
}

/** What a run of this kind stands on besides its setting. */
export interface ReinforcementOpening {
  readonly recipe: ReinforcementRecipe;
  readonly resumed: ResumedRun | undefined;
  /** Of the run. */
  readonly folder: string;
  /** Judges thoughts where the recipe rewards them. */
  readonly thoughts: ThoughtJudge;
  readonly clock: Clock;
  readonly onDifficulty?: (state: DifficultyState, examinedMax: number) => void;
  readonly isStopping?: () => boolean;
}

/** Opens the driver, after the difficulty filter if the run begins and has one. */
export async function openReinforcement(
  setting: RunSetting,
  opening: ReinforcementOpening,
): Promise<ReinforcementDriver> {
  const { backend, model, trainer, parts } = setting;
  const { recipe, resumed, folder, thoughts, clock, onDifficulty, isStopping } = opening;
  const judge = new RewardJudge(recipe.reward, thoughts);
  const { decoder } = model.config;
  const isSparse = model.parameters.decoder.layers.some((_, i) => isSparseLayer(decoder, i));
  const answerer = answererOf({ backend, model, text: setting, clock });
  const options = { recipe, trainer, answerer, text: setting, judge, isSparse, clock };
  if (resumed) return new ReinforcementDriver(options, { state: resumed.run });
  const { fingerprint } = parts;
  const difficulty = await filterQuestions(options, {
    folder,
    fingerprint,
    ...onDifficulty && { onRound: onDifficulty },
    ...isStopping && { isStopping },
  });
  return new ReinforcementDriver(options, { difficulty });
}
