/**
 * Bounds the extra work of hedged calls: every row sent earns a small share, every hedged row
 * spends one. Synchronous, without a clock: the share holds over any stretch of traffic.
 */
import { assert } from "@/assert.ts";

export class HedgeBudget {
  readonly #share: number;
  readonly #savedMax: number;
  #saved: number;

  /** Starts full. */
  constructor(options: { share: number; savedMax: number }) {
    assert(options.share >= 0 && options.share <= 1, `hedge share ${options.share}`);
    this.#share = options.share;
    this.#savedMax = options.savedMax;
    this.#saved = options.savedMax;
  }

  /** Rows that may be hedged now. */
  get saved(): number {
    return this.#saved;
  }

  /** Rows were sent for the first time. */
  earn(rows: number): void {
    this.#saved = Math.min(this.#savedMax, this.#saved + rows * this.#share);
  }

  /** Takes the rows of one hedge; false when there are not enough. */
  spend(rows: number): boolean {
    if (rows > this.#saved) return false;
    this.#saved -= rows;
    return true;
  }
}
