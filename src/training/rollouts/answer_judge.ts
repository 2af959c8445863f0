/** The parts of an answer's reward: accuracy by a rule, format, the thought by a judge. */
import {
  directFormatReward,
  formatReward,
  mixedReward,
  type Reward,
  splitReply,
} from "../policy/rewards.ts";
import type { ThoughtJudge } from "../policy/thought_judge.ts";
import type { Answer } from "./answerer.ts";
import { gradeReply, type Question } from "./question.ts";

/** Each from 0 to 1; null: nobody could tell. */
export interface RewardParts {
  readonly accuracy: Reward;
  readonly format: Reward;
  readonly thought: Reward;
}

/** Weights of the parts; they sum to 1. */
export type RewardWeights = Readonly<Record<keyof RewardParts, number>>;

export interface RepliedAnswer {
  readonly question: Question;
  readonly answer: Answer;
  readonly reply: string;
}

/** Looks at answers; what it cannot judge is null, it never throws. */
export interface AnswerJudge {
  /** Of everything that decides rewards: another name, another run. */
  readonly name: string;
  /** With `onlyAccuracy` the other parts may stay null. */
  judge(
    answers: readonly RepliedAnswer[],
    options?: { onlyAccuracy: boolean },
  ): Promise<RewardParts[]>;
}

/** Rules for accuracy and format; thoughts go to their judge when they count. */
export class RewardJudge implements AnswerJudge {
  readonly name: string;
  readonly #thoughts: ThoughtJudge | undefined;

  constructor(weights: RewardWeights, thoughts: ThoughtJudge) {
    this.#thoughts = weights.thought > 0 ? thoughts : undefined;
    this.name = this.#thoughts?.name ?? "accuracy and format";
  }

  async judge(
    answers: readonly RepliedAnswer[],
    { onlyAccuracy }: { onlyAccuracy: boolean } = { onlyAccuracy: false },
  ): Promise<RewardParts[]> {
    const thoughts = await this.#judgeThoughts(onlyAccuracy ? [] : answers);
    return answers.map(({ question, reply }, i) => ({
      accuracy: gradeReply(question, reply),
      format: question.thinking ? formatReward(reply) : directFormatReward(reply),
      thought: thoughts[i] ?? null,
    }));
  }

  /** Only of those that were asked to think; a reply without a thought needs no judge. */
  async #judgeThoughts(answers: readonly RepliedAnswer[]): Promise<Reward[]> {
    const rewards: Reward[] = answers.map(() => null);
    if (this.#thoughts === undefined) return rewards;
    const asked: number[] = [];
    for (const [i, { question, reply }] of answers.entries()) {
      if (!question.thinking) continue;
      if ((splitReply(reply).thought ?? "").trim() === "") rewards[i] = 0;
      else asked.push(i);
    }
    const judged = await this.#thoughts.judge(asked.map((i) => ({
      sample: answers[i]!.question.sample,
      reply: answers[i]!.reply,
    })));
    for (const [at, i] of asked.entries()) rewards[i] = judged[at]!;
    return rewards;
  }
}

/**
 * The weighted sum of the parts; null when one that counts is null. A direct answer has no thought:
 * the other two share its weight.
 */
export function rewardOf(parts: RewardParts, weights: RewardWeights, thinking: boolean): Reward {
  const { accuracy, format } = weights;
  const rest = accuracy + format;
  const effective: RewardWeights = thinking || rest === 0 ? weights : {
    accuracy: accuracy / rest,
    format: format / rest,
    thought: 0,
  };
  return mixedReward(
    (["accuracy", "format", "thought"] as const).map((name) => ({
      name,
      weight: effective[name],
      value: parts[name],
    })),
  );
}
