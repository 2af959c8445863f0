/** How hard a question is for a policy, from several tries, and which questions are worth training on. */
import { assert } from "@/assert.ts";

/**
 * Chance that at least one of `k` tries succeeds, estimated without bias from `tries` tries of which
 * `correct` succeeded: 1 - C(tries-correct, k) / C(tries, k).
 */
export function passAtK(
  { tries, correct, k }: { tries: number; correct: number; k: number },
): number {
  assert(k >= 1 && k <= tries && correct >= 0 && correct <= tries, "k of the tries at hand");
  let allFail = 1;
  for (let i = 0; i < k; i++) allFail *= Math.max(0, tries - correct - i) / (tries - i);
  return 1 - allFail;
}

/** Whether a question asks for a chain of thought or for looking. */
export type QuestionClass = "reasoning" | "perception";

export type DifficultyVerdict = "keep" | "too_easy" | "too_hard";

/**
 * The report's second filter on pass@4 of the previous stage: what always succeeds teaches nothing;
 * reasoning that never succeeds gives no reward to learn from.
 */
export function judgeDifficulty(
  { tries, correct, k = 4 }: { tries: number; correct: number; k?: number },
  kind: QuestionClass,
): DifficultyVerdict {
  const rate = passAtK({ tries, correct, k: Math.min(k, tries) });
  if (rate === 0) return kind === "reasoning" ? "too_hard" : "keep";
  // pass@k is 1 as soon as fewer than k tries fail; "always" means that all of them succeed.
  return correct === tries ? "too_easy" : "keep";
}
