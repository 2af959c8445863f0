/**
 * Groups of answers to learn from: questions are asked, answers rewarded, groups that teach nothing
 * replaced by new questions a bounded number of times (DAPO's dynamic sampling).
 */
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { groupAdvantages, selectGroups } from "../policy/advantages.ts";
import { overlongPenalty } from "../policy/length_shaping.ts";
import type { Reward } from "../policy/rewards.ts";
import {
  type AnswerJudge,
  type RepliedAnswer,
  rewardOf,
  type RewardParts,
  type RewardWeights,
} from "./answer_judge.ts";
import { type Answer, type Answerer, type AnswerStyle, replyText } from "./answerer.ts";
import type { WeighedAnswer } from "./policy_minibatch.ts";
import type { Question } from "./question.ts";

export interface RewardedAnswer {
  readonly answer: Answer;
  readonly reply: string;
  readonly parts: RewardParts;
  /** Null: could not be judged; the answer teaches nothing. */
  readonly reward: Reward;
}

/** A question with its answers; `rewards` are theirs. */
export interface AnswerGroup {
  readonly prompt: Question;
  readonly answers: readonly RewardedAnswer[];
  readonly rewards: readonly Reward[];
}

export interface GroupOptions {
  readonly answerer: Pick<Answerer, "answer">;
  readonly tokenizer: Tokenizer;
  readonly judge: AnswerJudge;
  readonly weights: RewardWeights;
  readonly style: AnswerStyle;
}

type Asked = readonly { readonly question: Question; readonly seed: number }[];

/** Asks questions, each with the seed of its draws, and rewards the answers. */
export async function askGroups(asked: Asked, options: GroupOptions): Promise<AnswerGroup[]> {
  const { judge, weights } = options;
  const groups = await ask(asked, options);
  const parts = await judge.judge(groups.flat());
  let at = 0;
  return groups.map((replied, i) => {
    const { question: prompt } = asked[i]!;
    const answers = replied.map(({ answer, reply }): RewardedAnswer => {
      const own = parts[at++]!;
      return { answer, reply, parts: own, reward: rewardOf(own, weights, prompt.thinking) };
    });
    return { prompt, answers, rewards: answers.map(({ reward }) => reward) };
  });
}

/** How many answers of each question are right. */
export async function countRight(asked: Asked, options: GroupOptions): Promise<number[]> {
  const groups = await ask(asked, options);
  const parts = await options.judge.judge(groups.flat(), { onlyAccuracy: true });
  let at = 0;
  return groups.map((replied) =>
    parts.slice(at, at += replied.length).filter(({ accuracy }) => accuracy === 1).length
  );
}

async function ask(
  asked: Asked,
  { answerer, tokenizer, style }: GroupOptions,
): Promise<RepliedAnswer[][]> {
  const encoded = asked.map(({ question, seed }) => ({ question: question.encoded, seed }));
  const answers = await answerer.answer(encoded, style);
  return asked.map(({ question }, i) =>
    answers[i]!.map((answer) => ({ question, answer, reply: replyText(answer, tokenizer) }))
  );
}

export interface Sampling {
  /** All groups that were asked, in order. */
  readonly asked: readonly AnswerGroup[];
  /** Those of them that teach something, at most as many as wanted. */
  readonly kept: readonly AnswerGroup[];
}

/** Groups until `wanted` of them teach something, with at most `resampleMax` draws after the first. */
export async function sampleGroups(
  options: GroupOptions & {
    readonly wanted: number;
    readonly resampleMax: number;
    /** The next question, with the seed of its answers. */
    readonly draw: () => { readonly question: Question; readonly seed: number };
  },
): Promise<Sampling> {
  const { wanted, resampleMax, draw } = options;
  const asked: AnswerGroup[] = [];
  let kept: AnswerGroup[] = [];
  for (let round = 0; round <= resampleMax && kept.length < wanted; round++) {
    const questions = Array.from({ length: wanted - kept.length }, draw);
    const groups = await askGroups(questions, options);
    asked.push(...groups);
    kept = [...kept, ...selectGroups<Question, AnswerGroup>(groups).kept];
  }
  return { asked, kept };
}

/**
 * The judged answers of a group with their advantages: rewards with the soft punishment of long
 * answers, compared inside the group. Those that could not be judged are left out.
 */
export function weighAnswers(
  { prompt, answers }: AnswerGroup,
  { tokensMax, bufferTokens }: { tokensMax: number; bufferTokens: number },
): WeighedAnswer[] {
  const judged = answers.filter(({ reward }) => reward !== null);
  const shaped = judged.map(({ answer, reward }) => {
    // What was cut would have gone on.
    const length = answer.isFinished ? answer.ids.length : Math.max(tokensMax, answer.ids.length);
    return reward! + overlongPenalty(length, { tokensMax, bufferTokens });
  });
  const advantages = groupAdvantages(shaped, shaped.map(() => 0));
  return judged.map(({ answer }, i) => ({
    question: prompt.encoded,
    answer,
    advantage: advantages[i]!,
  }));
}
