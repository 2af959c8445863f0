/** Rewards and penalties that depend on how long an answer is, or on how it repeats itself. */

export interface OverlongOptions {
  /** Longest answer in tokens, and how far before that the penalty starts. */
  readonly tokensMax: number;
  readonly bufferTokens: number;
  readonly factor?: number;
}

/**
 * DAPO's soft punishment: 0 up to `tokensMax - bufferTokens`, then falling linearly to `-factor` at
 * `tokensMax`, and staying there.
 */
export function overlongPenalty(length: number, options: OverlongOptions): number {
  return Math.max(-(options.factor ?? 1), unboundedOverlongPenalty(length, options));
}

/** verl's form, which goes on falling beyond `tokensMax`. */
export function unboundedOverlongPenalty(
  length: number,
  { tokensMax, bufferTokens, factor = 1 }: OverlongOptions,
): number {
  const excess = length - (tokensMax - bufferTokens);
  return excess <= 0 ? 0 : -excess / bufferTokens * factor;
}

/**
 * A reward that falls with length on a cosine: correct answers from 1 to 0.5, wrong ones from -1 to
 * -0.5 (so that a wrong answer had better have thought longer).
 */
export function cosineLengthReward(
  isCorrect: boolean,
  { length, lengthMax }: { length: number; lengthMax: number },
): number {
  const cosine = Math.cos(Math.min(length, lengthMax) / lengthMax * Math.PI);
  // Swapped for wrong answers: the shortest costs most.
  const [low, high] = isCorrect ? [0.5, 1] : [-0.5, -1];
  return low + (high - low) * (1 + cosine) / 2;
}

/** Share of repeated word n-grams times `penaltyMax` (at most 0). */
export function repetitionPenalty(
  text: string,
  { ngram, penaltyMax }: { ngram: number; penaltyMax: number },
): number {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const total = words.length - ngram + 1;
  if (total < 1) return 0;
  const seen = new Set<string>();
  for (let i = 0; i < total; i++) seen.add(words.slice(i, i + ngram).join(" "));
  return (1 - seen.size / total) * penaltyMax;
}
