/**
 * Rewards of an answer: rules for what can be verified, the shape of a thought, the mix of several
 * parts. A part that could not be judged is null, which is not 0: it leaves the answer out.
 */
import { assert } from "@/assert.ts";
import type { AnswerKind } from "@/data/makers/sample.ts";
import { boxedAnswers, lastBoxText } from "@/data/verification/boxed_answer.ts";
import { isSameAnswer } from "@/data/verification/math_equality.ts";
import { OperatingError } from "@/errors.ts";

/** A reward, or null when nobody could tell. */
export type Reward = number | null;

/** A reply cut at its thought. */
export interface SplitReply {
  /** Undefined when the reply does not begin with a closed `<think>`. */
  readonly thought: string | undefined;
  readonly rest: string;
}

export function splitReply(reply: string): SplitReply {
  const [, thought, rest] = /^\s*<think>(.*?)<\/think>(.*)$/s.exec(reply) ?? [];
  return thought === undefined ? { thought: undefined, rest: reply } : { thought, rest: rest! };
}

/**
 * 1 for a reply of one thought that says something, followed by an answer with one box that is not
 * empty; no further tags, no box inside the thought that could stand in for the answer.
 */
export function formatReward(reply: string): number {
  const { thought, rest } = splitReply(reply);
  if (thought === undefined || thought.trim() === "") return 0;
  if (/<\/?think>/.test(thought) || /<\/?think>/.test(rest)) return 0;
  const boxes = boxedAnswers(rest);
  return boxes.length === 1 && boxes[0] !== "" ? 1 : 0;
}

/** 1 for a direct answer: no tag of a thought in it. */
export function directFormatReward(reply: string): number {
  return /<\/?think>/.test(reply) ? 0 : 1;
}

/** What the reply answers: its last box after the thought, else all of that text. */
export function answerOf(reply: string): string {
  const { rest } = splitReply(reply);
  const boxes = boxedAnswers(rest);
  return (boxes.at(-1) ?? (/\\boxed/.test(rest) ? "" : rest)).trim();
}

/**
 * 1 when the reply's answer is the true one, else 0. Only text after the thought counts, so a box
 * inside it earns nothing. `text` is compared loosely in case and spacing; null when there is no
 * truth to compare with.
 */
export function accuracyReward(
  reply: string,
  { truth, kind, needsBox = false }: { truth: string; kind: AnswerKind; needsBox?: boolean },
): Reward {
  if (truth.trim() === "") return null;
  if (needsBox && boxedAnswers(splitReply(reply).rest).length === 0) return 0;
  const answer = answerOf(reply);
  if (answer === "") return 0;
  if (kind === "number") return Number(isSameAnswer(truth, answer));
  return Number(folded(truth) === folded(answer));
}

function folded(text: string): string {
  return text.toLowerCase().replaceAll(/\s+/g, " ").replace(/[.!]+$/, "").trim();
}

/** One part of a mixed reward. */
export interface RewardPart {
  readonly name: string;
  readonly weight: number;
  readonly value: Reward;
}

/** What is wrong with weights that are not in [0, 1] or do not sum to 1. */
export function rewardWeightProblem(
  weights: Readonly<Record<string, number>>,
): string | undefined {
  const values = Object.values(weights);
  const total = values.reduce((a, b) => a + b, 0);
  if (values.every((weight) => weight >= 0 && weight <= 1) && Math.abs(total - 1) <= 1e-9) {
    return undefined;
  }
  const listed = Object.entries(weights).map(([name, weight]) => `${name} ${weight}`).join(", ");
  return `weights must be from 0 to 1 and sum to 1, they are ${listed} (sum ${total})`;
}

/** Throws OperatingError unless weights are in [0, 1] and sum to 1. */
export function checkRewardWeights(weights: Readonly<Record<string, number>>): void {
  const problem = rewardWeightProblem(weights);
  if (problem) throw new OperatingError("invalid_request", `Cannot weigh rewards: ${problem}`);
}

/**
 * The weighted sum. Null when a part with weight is null: a judge that failed says nothing about the
 * answer, so the answer teaches nothing.
 */
export function mixedReward(parts: readonly RewardPart[]): Reward {
  checkRewardWeights(Object.fromEntries(parts.map(({ name, weight }) => [name, weight])));
  let total = 0;
  for (const { weight, value } of parts) {
    if (weight === 0) continue;
    if (value === null) return null;
    assert(value >= 0 && value <= 1, "parts are from 0 to 1");
    total += weight * value;
  }
  return total;
}

/** RLVR's reward: accuracy and format, both 0 or 1. */
export function verifiedReward(
  reply: string,
  { truth, kind, formatWeight }: { truth: string; kind: AnswerKind; formatWeight: number },
): Reward {
  return mixedReward([
    {
      name: "accuracy",
      weight: 1 - formatWeight,
      value: accuracyReward(reply, { truth, kind, needsBox: true }),
    },
    { name: "format", weight: formatWeight, value: formatReward(reply) },
  ]);
}

/** TRL's `think_format_reward`: begins with `<think>`, one opening tag, a closing one somewhere. */
export function thinkTagReward(reply: string): number {
  return Number(/^<think>(?!.*<think>).*<\/think>.*$/s.test(reply));
}

/** The reward of verl's geo3k recipe: 0.9 accuracy of the last box anywhere, 0.1 format. */
export function geometryReward(
  reply: string,
  truth: string,
): { format: number; accuracy: number; score: number } {
  const format = Number(/^<think>.*<\/think>.*\\boxed\{.*\}.*$/s.test(reply));
  const box = lastBoxText(reply);
  const answer = box === undefined ? "None" : box.replace(/^\\boxed\{/, "").slice(0, -1).trim();
  const accuracy = Number(answer !== "" && isSameAnswer(truth, answer));
  return { format, accuracy, score: 0.9 * accuracy + 0.1 * format };
}
