/**
 * Answers of a model as its weights are now, many at a time, through the serving engine. An engine
 * lives for one batch of questions: what its caches know was computed with the weights of that
 * moment, and its memory is the trainer's again afterwards. Owns no weights and judges nothing.
 */
import type { Clock } from "@/clock.ts";
import { defaultEngineBounds, type EngineBounds } from "@/engine/bounds.ts";
import { Engine } from "@/engine/engine.ts";
import { CONTEXT_TOKENS_DEFAULT } from "@/engine/memory_plan.ts";
import type { Generation, GenerationRequest, PromptTile } from "@/engine/request.ts";
import { kvPageBytes } from "@/engine/runner.ts";
import { limits } from "@/limits.ts";
import type { LanguageModel } from "@/model/language_model.ts";
import type { ModelBounds } from "@/model/vlm.ts";
import { hashWords } from "@/random.ts";
import { greedyParams, type SamplingParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import type { EncodedQuestion } from "../conversation_encoder.ts";
import type { ModelText } from "../model_text.ts";

/** A question and the number that all draws of its answers come from. */
export interface AskedQuestion {
  readonly question: EncodedQuestion;
  readonly seed: number;
}

/** One sampled continuation. */
export interface Answer {
  /** Its tokens, the one that ended it included. */
  readonly ids: readonly number[];
  /** Their log probabilities under the model's unmodified logits, when they were drawn. */
  readonly logprobs: readonly number[];
  /** Whether it ended by itself; false: it was cut at the bound. */
  readonly isFinished: boolean;
}

/** What an answer says, without the token that ended it. */
export function replyText({ ids, isFinished }: Answer, tokenizer: Tokenizer): string {
  return tokenizer.decode(isFinished ? ids.slice(0, -1) : ids);
}

export interface AnswerStyle {
  readonly answersPerQuestion: number;
  /** 0 = greedy. */
  readonly temperature: number;
  readonly tokensMax: number;
}

export interface AnswererOptions {
  /** Bounded by `rolloutBounds(sequences)`. */
  readonly model: LanguageModel;
  /** Sequences of one step. */
  readonly sequences: number;
  readonly text: Pick<ModelText, "tokenizer" | "promptTokens">;
  readonly clock: Clock;
  /** What surrounds each batch. */
  readonly within?: <T>(answer: () => Promise<T>) => Promise<T>;
}

/** Sequences of one step whose logits fit their bound. */
export function rolloutSequences(vocabularySize = limits.vocabularySizeMax): number {
  const fitting = Math.floor(limits.rolloutLogitBytesMax / (4 * vocabularySize));
  return Math.max(1, Math.min(limits.rolloutSequencesMax, fitting));
}

/** Bounds of a model that answers so many sequences together. */
export function rolloutBounds(sequences: number): ModelBounds {
  return {
    stepTokens: Math.max(limits.stepTokensMax, sequences),
    stepTiles: limits.stepTilesMax,
    logitRows: sequences + 1,
    contextTokens: CONTEXT_TOKENS_DEFAULT,
  };
}

export class Answerer {
  readonly #options: AnswererOptions;

  constructor(options: AnswererOptions) {
    this.#options = options;
  }

  /** Answers of each question, all in one batch as far as memory allows. */
  async answer(asked: readonly AskedQuestion[], style: AnswerStyle): Promise<Answer[][]> {
    if (asked.length === 0) return [];
    const { within = (answer) => answer() } = this.#options;
    return await within(() => this.#answerAll(asked, style));
  }

  async #answerAll(asked: readonly AskedQuestion[], style: AnswerStyle): Promise<Answer[][]> {
    const engine = this.#open(asked, style);
    try {
      // A request has a bounded number of choices; each of its parts draws by a seed of its own.
      return await Promise.all(asked.map(async (question, index) => {
        const parts: Promise<Answer[]>[] = [];
        const { answersPerQuestion } = style;
        for (let first = 0; first < answersPerQuestion; first += limits.choicesMax) {
          const choices = Math.min(limits.choicesMax, answersPerQuestion - first);
          const request = this.#request(question, { index, first, choices, style });
          parts.push(collect(engine.submit(request), choices));
        }
        return (await Promise.all(parts)).flat();
      }));
    } finally {
      await engine.close();
    }
  }

  #open(asked: readonly AskedQuestion[], style: AnswerStyle): Engine {
    const { model, sequences, text: { tokenizer, promptTokens }, clock } = this.#options;
    const { answersPerQuestion, tokensMax } = style;
    const bounds: EngineBounds = {
      ...defaultEngineBounds,
      stepTokens: rolloutBounds(sequences).stepTokens,
      stepLogits: rolloutBounds(sequences).logitRows,
      runningSequences: sequences,
      stepScores: 1,
      // Nobody else waits: long steps read the weights less often.
      stepMs: limits.rolloutStepMs,
      queueRequests: 1 + asked.length * Math.ceil(answersPerQuestion / limits.choicesMax),
      pendingPixelBytes: Number.MAX_SAFE_INTEGER,
      generationMs: Infinity,
    };
    const { pageTokens } = bounds;
    const pagesOf = ({ question }: AskedQuestion) =>
      Math.ceil((question.ids.length + tokensMax) / pageTokens) + 1;
    const wanted = asked.reduce((sum, one) => sum + answersPerQuestion * pagesOf(one), 0);
    const longest = asked.reduce((most, one) => Math.max(most, pagesOf(one)), 0);
    const pageBytes = kvPageBytes(model.kvShape, { format: "f32", pageTokens });
    const affordable = Math.floor(limits.rolloutKvBytesMax / pageBytes);
    return new Engine({
      model,
      kv: { format: "f32", pages: Math.max(longest, Math.min(wanted, affordable)) },
      usableVocabulary: Math.min(tokenizer.size, model.vocabularySize),
      forbiddenIds: [promptTokens.imageStart, promptTokens.imageEnd, promptTokens.imageContext],
      contextTokens: longest * pageTokens,
      speculation: "off",
      clock,
      log: silentLogger,
      metrics: new Metrics(),
      bounds,
    });
  }

  #request(
    { question, seed }: AskedQuestion,
    at: { index: number; first: number; choices: number; style: AnswerStyle },
  ): GenerationRequest {
    const { index, first, choices, style } = at;
    const params: SamplingParams = {
      ...greedyParams,
      temperature: style.temperature,
      seed: first === 0 ? seed : hashWords(seed, first),
      maxTokens: style.tokensMax,
      topLogprobs: 0,
    };
    const tiles = promptTiles(question, { name: `${index}`, model: this.#options.model });
    const id = `${index}/${first}`;
    return { id, promptIds: question.ids, tiles, params, choices, promptLogprobs: false };
  }
}

/** Tiles at their places; a name stands for their content, since the engine ends with the batch. */
function promptTiles(
  { spans, tiles }: EncodedQuestion,
  { name, model }: { name: string; model: LanguageModel },
): PromptTile[] {
  const { tokensPerTile } = model;
  const starts = spans.flatMap(({ start, count }) =>
    Array.from({ length: count / tokensPerTile }, (_, i) => start + i * tokensPerTile)
  );
  return tiles.map((pixels, i) => ({ hash: `${name}/${i}`, pixels, start: starts[i]! }));
}

async function collect(generation: Generation, choices: number): Promise<Answer[]> {
  const answers = Array.from({ length: choices }, () => ({
    ids: [] as number[],
    logprobs: [] as number[],
    isFinished: false,
  }));
  for await (const event of generation) {
    if (event.type === "token") {
      const answer = answers[event.choice]!;
      answer.ids.push(event.id);
      answer.logprobs.push(event.logprob!.logprob);
    } else if (event.type === "finish") {
      answers[event.choice]!.isFinished = event.reason === "stop";
    }
  }
  return answers;
}
