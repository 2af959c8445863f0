/**
 * What a step of so many rows costs, learned from measured steps in which every row drew a token.
 * Decoding is bound by memory, so that a second row is often almost free, but by how much depends on
 * model, kernels and machine. Only speed is decided with it, never a token.
 */

/** Weight of the newest measurement. */
const NEWEST = 0.25;
/** A disturbed measurement counts as at most so many times the mean. */
const OUTLIER = 2;
/** Guess for rows that were never tried: each costs so much of the largest step known. Low, so that
 * they are tried. */
const UNTRIED_ROW = 0.04;

export interface CostOfRows {
  /** Milliseconds of a step of `rows` rows; undefined before anything was measured. */
  ms(rows: number): number | undefined;
}

export class StepCost implements CostOfRows {
  /** Mean milliseconds by rows. */
  readonly #means = new Map<number, number>();
  /** Keys of `#means`, ascending. */
  #known: number[] = [];

  /** Takes the time of a step whose `rows` rows all drew. */
  observe(rows: number, ms: number): void {
    const mean = this.#means.get(rows);
    if (mean === undefined) {
      this.#means.set(rows, ms);
      this.#known = [...this.#means.keys()].sort((a, b) => a - b);
    } else {
      this.#means.set(rows, mean + NEWEST * (Math.min(ms, OUTLIER * mean) - mean));
    }
  }

  ms(rows: number): number | undefined {
    const exact = this.#means.get(rows);
    if (exact !== undefined) return exact;
    const above = this.#known.findIndex((known) => known > rows);
    if (above === 0) return this.#means.get(this.#known[0]!); // no fewer rows cost more
    const low = above < 0 ? this.#known.at(-1) : this.#known[above - 1];
    if (low === undefined) return undefined;
    const lowMs = this.#means.get(low)!;
    if (above < 0) return lowMs * (1 + UNTRIED_ROW * (rows - low));
    const high = this.#known[above]!;
    const highMs = this.#means.get(high)!;
    return lowMs + (highMs - lowMs) * (rows - low) / (high - low);
  }
}
