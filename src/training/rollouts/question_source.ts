/** The order of a stage's questions: the mixture's endless stream, or a pool that was chosen before. */
import { assert } from "@/assert.ts";
import { hashText } from "@/data/dice.ts";
import {
  Mixture,
  MIXTURE_START,
  type MixtureCursor,
  type MixtureSource,
  shuffledIndex,
} from "@/data/stream/mixture.ts";
import { OperatingError } from "@/errors.ts";
import { hashWords } from "@/random.ts";
import type { ConversationEncoder } from "../conversation_encoder.ts";
import type { StageSamples } from "../stage_samples.ts";
import { asFreeResponse, type Question, questionOf } from "./question.ts";

/** Names a question for ever, as long as makers and seed stay the same; JSON. */
export interface QuestionName {
  readonly source: string;
  readonly index: number;
}

export interface QuestionMaking {
  readonly encoder: ConversationEncoder;
  readonly samples: StageSamples;
  readonly seed: number;
}

/** A question by its name, at full difficulty; undefined when it cannot be graded by a rule. */
export function makeQuestion(
  { source, index }: QuestionName,
  { encoder, samples }: QuestionMaking,
): Question | undefined {
  const { sample, thinking } = samples.make({ source, index, level: Infinity });
  const free = asFreeResponse(sample);
  return free && questionOf(free, { encoder, thinking });
}

/** Draws in a row that give no question before the mixture counts as useless. */
const REFUSALS_IN_A_ROW_MAX = 1000;

/** A question and its name. */
export interface NamedQuestion {
  readonly name: QuestionName;
  readonly question: Question;
}

/** The questions of the mixture, in its order. */
export class MixtureQuestions {
  readonly #mixture: Mixture;
  readonly #making: QuestionMaking;

  constructor(
    sources: readonly MixtureSource[],
    making: QuestionMaking,
    cursor: MixtureCursor = MIXTURE_START,
  ) {
    this.#mixture = new Mixture(sources, { seed: making.seed, cursor });
    this.#making = making;
  }

  get cursor(): MixtureCursor {
    return this.#mixture.cursor;
  }

  next(): NamedQuestion {
    for (let tries = 0; tries < REFUSALS_IN_A_ROW_MAX; tries++) {
      const { source, index } = this.#mixture.next();
      const question = makeQuestion({ source, index }, this.#making);
      if (question) return { name: { source, index }, question };
    }
    throw new OperatingError(
      "invalid_request",
      `Cannot draw questions: ${REFUSALS_IN_A_ROW_MAX} in a row cannot be graded by a rule`,
    );
  }
}

/** A pool's questions: all of them in a new order each time. */
export class PoolQuestions {
  readonly #pool: readonly QuestionName[];
  readonly #making: QuestionMaking;
  #drawn: number;

  constructor(pool: readonly QuestionName[], making: QuestionMaking, drawn = 0) {
    assert(pool.length > 0, "a pool has questions");
    this.#pool = pool;
    this.#making = making;
    this.#drawn = drawn;
  }

  get drawn(): number {
    return this.#drawn;
  }

  next(): NamedQuestion {
    const size = this.#pool.length;
    const epoch = Math.floor(this.#drawn / size);
    const key = hashWords(this.#making.seed, hashText("question pool"), epoch);
    const name = this.#pool[shuffledIndex(this.#drawn % size, { size, key })]!;
    this.#drawn++;
    const question = makeQuestion(name, this.#making);
    assert(question, `${name.source}/${name.index} was a question before`);
    return { name, question };
  }
}
