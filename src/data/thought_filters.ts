/** Which chains of thought are worth learning: their form, their redundancy, and a balance of lengths. */
import type { Dice } from "./dice.ts";
import { boxedAnswers } from "./verification/boxed_answer.ts";
import { isSameAnswer } from "./verification/math_equality.ts";

export interface ThoughtSample {
  readonly question: string;
  /** Names the picture, for finding doubles. */
  readonly picture: string;
  readonly thought: string;
  readonly answer: string;
}

export type ThoughtVerdict = "keep" | "bad_format" | "redundant" | "too_short" | "too_long";

export interface ThoughtLimits {
  readonly wordsMin: number;
  readonly wordsMax: number;
  /** Largest share of the thought's words that only repeat earlier three-word runs. */
  readonly repetitionMax: number;
  /** Largest share of the thought's words that the answer already says. */
  readonly overlapMax: number;
}

export const THOUGHT_LIMITS: ThoughtLimits = {
  wordsMin: 3,
  wordsMax: 400,
  repetitionMax: 0.3,
  overlapMax: 0.6,
};

/** Judges one chain. Tags inside, an empty answer, or a box that contradicts it are bad format. */
export function judgeThought(
  { thought, answer }: Pick<ThoughtSample, "thought" | "answer">,
  limits: ThoughtLimits = THOUGHT_LIMITS,
): ThoughtVerdict {
  if (thought.trim() === "" || answer.trim() === "" || /<\/?think>/.test(thought)) {
    return "bad_format";
  }
  if (boxedAnswers(thought).some((box) => !isSameAnswer(answer, box))) return "bad_format";
  const words = wordsOf(thought);
  if (words.length < limits.wordsMin) return "too_short";
  if (words.length > limits.wordsMax) return "too_long";
  if (repetitionOf(words) > limits.repetitionMax) return "redundant";
  const said = new Set(wordsOf(answer));
  const overlap = words.filter((word) => said.has(word)).length / words.length;
  return overlap > limits.overlapMax ? "redundant" : "keep";
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) ?? [];
}

/** Share of three-word runs that came before. */
function repetitionOf(words: readonly string[]): number {
  const runs = words.length - 2;
  if (runs < 2) return 0;
  const seen = new Set<string>();
  for (let i = 0; i < runs; i++) seen.add(words.slice(i, i + 3).join(" "));
  return 1 - seen.size / runs;
}

/** Drops samples whose picture and question came before, comparing loosely. */
export function dropDoubles<T extends Pick<ThoughtSample, "question" | "picture">>(
  samples: readonly T[],
): T[] {
  const seen = new Set<string>();
  return samples.filter(({ question, picture }) => {
    const key = JSON.stringify([picture, wordsOf(question).join(" ")]);
    return !seen.has(key) && seen.add(key);
  });
}

/**
 * Evens out lengths: samples are counted in classes of doubling length, and each class keeps at most
 * `share` of the total, chosen at random. Keeps the order.
 */
export function balanceLengths<T>(
  samples: readonly T[],
  { lengthOf, share, dice }: { lengthOf: (sample: T) => number; share: number; dice: Dice },
): T[] {
  const classOf = (sample: T) => Math.floor(Math.log2(Math.max(1, lengthOf(sample))));
  const classes = Map.groupBy(samples.map((_, i) => i), (i) => classOf(samples[i]!));
  const most = Math.max(1, Math.ceil(samples.length * share));
  const kept = new Set<number>();
  for (const members of classes.values()) {
    for (const i of dice.sample(members, Math.min(most, members.length))) kept.add(i);
  }
  return samples.filter((_, i) => kept.has(i));
}
