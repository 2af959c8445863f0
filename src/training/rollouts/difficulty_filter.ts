/**
 * Which questions are worth training on, before a stage begins: those that the model as it is answers
 * neither always nor (where thought is needed) never. Works in rounds whose state is JSON; the same
 * weights, recipe and rounds give the same pool.
 */
import { hashText } from "@/data/dice.ts";
import type { MixtureCursor } from "@/data/stream/mixture.ts";
import { hashWords } from "@/random.ts";
import { judgeDifficulty } from "../policy/difficulty.ts";
import type { AnswerStyle } from "./answerer.ts";
import type { MixtureQuestions, NamedQuestion, QuestionName } from "./question_source.ts";
import type { Question } from "./question.ts";

/** JSON. */
export interface DifficultyState {
  readonly kept: readonly QuestionName[];
  readonly examined: number;
  readonly tooEasy: number;
  readonly tooHard: number;
  /** Of the mixture, for the next round. */
  readonly cursor: MixtureCursor;
}

export interface DifficultyOptions {
  readonly questions: MixtureQuestions;
  readonly seed: number;
  readonly style: AnswerStyle;
  /** Questions to examine in all, and in one round. */
  readonly examinedMax: number;
  readonly roundQuestions: number;
  /** Right answers of each question among its tries. */
  readonly countRight: (
    asked: readonly { readonly question: Question; readonly seed: number }[],
    style: AnswerStyle,
  ) => Promise<number[]>;
  /** After each round: the state so far. */
  readonly onRound?: (state: DifficultyState) => Promise<void> | void;
  /** Once true, the filter ends after the round. */
  readonly isStopping?: () => boolean;
}

/** Examines questions until enough were, from the beginning or where an earlier call stopped. */
export async function filterByDifficulty(
  options: DifficultyOptions,
  start?: DifficultyState,
): Promise<DifficultyState> {
  const { questions, examinedMax, roundQuestions } = options;
  let state = start ?? {
    kept: [],
    examined: 0,
    tooEasy: 0,
    tooHard: 0,
    cursor: questions.cursor,
  };
  while (state.examined < examinedMax && !options.isStopping?.()) {
    const count = Math.min(roundQuestions, examinedMax - state.examined);
    const drawn = Array.from({ length: count }, () => questions.next());
    state = await examine(drawn, state, options);
    await options.onRound?.(state);
  }
  return state;
}

async function examine(
  drawn: readonly NamedQuestion[],
  state: DifficultyState,
  { questions, seed, style, countRight }: DifficultyOptions,
): Promise<DifficultyState> {
  const asked = drawn.map(({ question }, i) => ({
    question,
    seed: hashWords(seed, hashText("difficulty"), state.examined + i),
  }));
  const right = await countRight(asked, style);
  const kept: QuestionName[] = [];
  let { tooEasy, tooHard } = state;
  for (const [i, { name, question }] of drawn.entries()) {
    const [turn] = question.sample.turns;
    const kind = turn!.thought === undefined ? "perception" : "reasoning";
    const verdict = judgeDifficulty(
      { tries: style.answersPerQuestion, correct: right[i]! },
      kind,
    );
    if (verdict === "keep") kept.push(name);
    else if (verdict === "too_easy") tooEasy++;
    else tooHard++;
  }
  return {
    kept: [...state.kept, ...kept],
    examined: state.examined + drawn.length,
    tooEasy,
    tooHard,
    cursor: questions.cursor,
  };
}
