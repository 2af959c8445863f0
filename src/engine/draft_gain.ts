/**
 * Arithmetic of speculation: how often drafts come true, and how many of them pay. A step of R rows
 * brings R tokens of progress; drafts bring one each with their chance of being accepted, and cost
 * what more rows cost.
 */
import type { CostOfRows } from "./step_cost.ts";

/** Weight of the wider experience, in trials. */
const PRIOR_TRIALS = 3;
/** A rate beyond this would promise that a draft never ends. */
const RATE_MAX = 0.98;

/** Chance that a drafted token is accepted when those before it were. Old trials fade. */
export class AcceptanceRate {
  readonly #prior: { readonly rate: number };
  /** What is left of a trial's weight after each observation. */
  readonly #fading: number;
  #hits = 0;
  #trials = 0;

  constructor(prior: { readonly rate: number }, fading: number) {
    this.#prior = prior;
    this.#fading = fading;
  }

  get rate(): number {
    const hits = this.#hits + PRIOR_TRIALS * this.#prior.rate;
    return Math.min(RATE_MAX, hits / (this.#trials + PRIOR_TRIALS));
  }

  /** Tokens after the first rejected one were never tried. */
  observe(drafted: number, accepted: number): void {
    this.#hits = this.#hits * this.#fading + accepted;
    this.#trials = this.#trials * this.#fading + Math.min(drafted, accepted + 1);
  }
}

/**
 * How many drafts to add to a step of `rows` rows: the count with the most expected tokens per
 * millisecond, or 0 when none beats the plain step by `margin`. `chances` are those of the drafts
 * in the order in which they would be added; `draftMs` is what making one more row of drafts costs.
 */
export function worthwhileDrafts(args: {
  rows: number;
  chances: readonly number[];
  cost: CostOfRows;
  margin: number;
}): number {
  const { rows, chances, cost, margin } = args;
  const plainMs = cost.ms(rows);
  if (plainMs === undefined) return 0; // the first step shows what a plain one costs
  let [best, bestRate] = [0, (1 + margin) * rows / plainMs];
  let progress = rows;
  for (const [index, chance] of chances.entries()) {
    progress += chance;
    const rate = progress / (cost.ms(rows + index + 1) ?? Infinity);
    if (rate > bestRate) [best, bestRate] = [index + 1, rate];
  }
  return best;
}
