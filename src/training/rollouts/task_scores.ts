/** How many of the makers' questions a model answers rightly, by task, with confidence intervals. */
import { hashText } from "@/data/dice.ts";
import { makeSample, type TaskName } from "@/data/makers/maker_registry.ts";
import type { MakerSettings, Sample } from "@/data/makers/sample.ts";
import { hashWords } from "@/random.ts";
import type { ModelText } from "../model_text.ts";
import { passAtK } from "../policy/difficulty.ts";
import { type Answerer, replyText } from "./answerer.ts";
import { gradeReply, type Question, questionOf } from "./question.ts";

/** What one task came to. */
export interface TaskScore {
  readonly task: string;
  /** Answers that could be graded, and the right ones. */
  readonly count: number;
  readonly right: number;
  readonly accuracy: number;
  /** Bounds of the accuracy with 95 % confidence. */
  readonly low: number;
  readonly high: number;
  /** Answers that were cut at the bound. */
  readonly cut: number;
  readonly answerTokensMean: number;
  /** With `tries`: chance that one sampled answer, or one of all tries, is right. */
  readonly passAtOne?: number;
  readonly passAtTries?: number;
  /** Some of the wrong replies. */
  readonly wrong: readonly WrongReply[];
}

export interface WrongReply {
  readonly id: string;
  readonly question: string;
  readonly answer: string;
  readonly reply: string;
}

export interface ScoringOptions {
  readonly answerer: Pick<Answerer, "answer">;
  readonly text: Pick<ModelText, "tokenizer" | "encoder">;
  readonly settings: MakerSettings;
  readonly seed: number;
  readonly thinking: boolean;
  readonly answerTokensMax: number;
  /** Answers of each question sampled at temperature 1 besides the greedy one. */
  readonly tries?: number;
  readonly onProgress?: (done: number) => void;
}

/** Questions of one batch: bounds the pixels that are held. */
const BATCH_QUESTIONS = 256;
const WRONG_REPLIES_KEPT = 10;
/** Of the standard normal distribution, for 95 %. */
const QUANTILE = 1.959963984540054;

/** Answers to the first `count` samples of a task under the seed. */
export async function scoreTask(
  task: TaskName,
  count: number,
  options: ScoringOptions,
): Promise<TaskScore> {
  const { seed, settings } = options;
  const drawn = function* () {
    for (let index = 0; index < count; index++) yield makeSample(task, { seed, index, settings });
  };
  return await scoreSamples(task, drawn(), options);
}

/** Greedy answers to samples of any origin, and the tries that are asked for. */
export async function scoreSamples(
  task: string,
  samples: Iterable<Sample>,
  options: Omit<ScoringOptions, "settings">,
): Promise<TaskScore> {
  const tally = new Tally();
  const { thinking, text: { encoder } } = options;
  let questions: Question[] = [];
  const answerAll = async () => {
    await answerGreedily(questions, options, tally);
    await sampleTries(questions, options, tally);
    options.onProgress?.(questions.length);
    questions = [];
  };
  for (const sample of samples) {
    questions.push(questionOf(sample, { encoder, thinking }));
    if (questions.length === BATCH_QUESTIONS) await answerAll();
  }
  if (questions.length > 0) await answerAll();
  return tally.score(task);
}

async function answerGreedily(
  questions: readonly Question[],
  { answerer, text, answerTokensMax: tokensMax }: Omit<ScoringOptions, "settings">,
  tally: Tally,
): Promise<void> {
  const asked = questions.map(({ encoded }) => ({ question: encoded, seed: 0 }));
  const style = { answersPerQuestion: 1, temperature: 0, tokensMax };
  const answers = await answerer.answer(asked, style);
  for (const [i, [answer]] of answers.entries()) {
    const reply = replyText(answer!, text.tokenizer);
    tally.add(questions[i]!, { reply, tokens: answer!.ids.length, isCut: !answer!.isFinished });
  }
}

/** Answers for pass@k; each question draws by a seed of its own. */
async function sampleTries(
  questions: readonly Question[],
  { answerer, text, answerTokensMax: tokensMax, tries = 0, seed }: Omit<ScoringOptions, "settings">,
  tally: Tally,
): Promise<void> {
  if (tries === 0) return;
  const asked = questions.map(({ encoded, sample }) => ({
    question: encoded,
    seed: hashWords(seed, hashText(sample.id)),
  }));
  const style = { answersPerQuestion: tries, temperature: 1, tokensMax };
  for (const [i, answers] of (await answerer.answer(asked, style)).entries()) {
    const replies = answers.map((answer) => replyText(answer, text.tokenizer));
    const grades = replies.map((reply) => gradeReply(questions[i]!, reply));
    if (grades.includes(null)) continue;
    tally.addTries({ tries, correct: grades.filter((grade) => grade === 1).length });
  }
}

/**
 * Wilson's interval of a share with 95 % confidence; it stays inside 0 … 1 and is not empty for
 * shares of 0 or 1.
 */
export function wilsonInterval(right: number, count: number): { low: number; high: number } {
  if (count === 0) return { low: 0, high: 1 };
  const share = right / count;
  const square = QUANTILE ** 2 / count;
  const centre = share + square / 2;
  const spread = QUANTILE * Math.sqrt(share * (1 - share) / count + square / (4 * count));
  const bounded = (value: number) => Math.min(1, Math.max(0, value / (1 + square)));
  return { low: bounded(centre - spread), high: bounded(centre + spread) };
}

class Tally {
  #count = 0;
  #right = 0;
  #cut = 0;
  #answers = 0;
  #tokens = 0;
  readonly #wrong: WrongReply[] = [];
  readonly #tried: { readonly tries: number; readonly correct: number }[] = [];

  addTries(tried: { tries: number; correct: number }): void {
    this.#tried.push(tried);
  }

  add(question: Question, said: { reply: string; tokens: number; isCut: boolean }): void {
    const { id, turns: [turn] } = question.sample;
    this.#answers++;
    this.#tokens += said.tokens;
    if (said.isCut) this.#cut++;
    const grade = gradeReply(question, said.reply);
    if (grade === null) return;
    this.#count++;
    this.#right += grade;
    if (grade === 1 || this.#wrong.length >= WRONG_REPLIES_KEPT) return;
    this.#wrong.push({ id, question: turn!.question, answer: turn!.answer, reply: said.reply });
  }

  score(task: string): TaskScore {
    const [count, right] = [this.#count, this.#right];
    return {
      task,
      count,
      right,
      accuracy: count === 0 ? 0 : right / count,
      ...wilsonInterval(right, count),
      cut: this.#cut,
      answerTokensMean: this.#tokens / Math.max(1, this.#answers),
      ...this.#tried.length > 0 && {
        passAtOne: this.#passAt(() => 1),
        passAtTries: this.#passAt(({ tries }) => tries),
      },
      wrong: this.#wrong,
    };
  }

  #passAt(k: (tried: { readonly tries: number }) => number): number {
    const chances = this.#tried.map((tried) => passAtK({ ...tried, k: k(tried) }));
    return chances.reduce((sum, chance) => sum + chance, 0) / chances.length;
  }
}
