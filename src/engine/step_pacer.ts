/**
 * Keeps steps short: a step blocks cancels and the tokens of other streams, so on a slow machine or
 * a large model a prompt must go in small chunks. Learns from measured steps how many rows and
 * tiles fit the target time. Chunking never changes a token.
 */
import type { EngineBounds } from "./bounds.ts";
import type { CostOfRows } from "./step_cost.ts";

/** What one step may take at most. */
export interface StepAllowance {
  readonly rows: number;
  readonly tiles: number;
  /** Steps that may follow before results are known; default none. */
  readonly ahead?: number;
  /** What rows cost; undefined = unknown. Decides how much is speculated. */
  readonly cost?: CostOfRows;
}

/** Rows of the first step, before anything is known of the machine. */
const FIRST_ROWS = 64;
/** Weights are read once per step, so a few rows cost hardly more than one. */
const ROWS_MIN = 16;
/** A request that is alone keeps nobody waiting, so its steps may take so many times as long: the
 * weights are then read less often. */
const ALONE = 3;
/** A step that used less of its allowance says nothing about a larger one. */
const TELLING_SHARE = 0.75;

export class StepPacer {
  readonly #bounds: Pick<EngineBounds, "stepTokens" | "stepTiles" | "stepMs">;
  #rows: number;
  #tiles: number;

  constructor(bounds: Pick<EngineBounds, "stepTokens" | "stepTiles" | "stepMs">) {
    this.#bounds = bounds;
    this.#rows = Math.min(FIRST_ROWS, bounds.stepTokens);
    this.#tiles = 1;
  }

  /**
   * Every running sequence can decode: that many rows are always allowed. `requests` run or wait;
   * one alone gets longer steps.
   */
  allowance(runningSequences: number, requests = Infinity): StepAllowance {
    const fitting = this.#rows * (requests > 1 ? 1 : ALONE);
    const rows = Math.max(Math.floor(fitting), runningSequences);
    return { rows: Math.min(rows, this.#bounds.stepTokens), tiles: this.#tiles };
  }

  /** Takes the measured time of a step. */
  observe(step: { rows: number; tiles: number; ms: number }): void {
    const { stepTokens, stepTiles, stepMs } = this.#bounds;
    // At most twice or half as much: one disturbed measurement must not decide.
    const bounded = (factor: number) => Math.min(2, Math.max(0.5, factor));
    const share = stepMs / Math.max(step.ms, 1e-3);
    if (step.tiles > 0) {
      const factor = bounded(share);
      // Tiles dominate their step, so the rows learn nothing from it.
      if (step.tiles < this.#tiles * TELLING_SHARE && factor > 1) return;
      this.#tiles = Math.min(stepTiles, Math.max(1, Math.floor(this.#tiles * factor)));
      return;
    }
    // The step may have been a longer one.
    const factor = bounded(share * Math.max(1, step.rows / this.#rows));
    if (step.rows < this.#rows * TELLING_SHARE && factor > 1) return;
    this.#rows = Math.min(stepTokens, Math.max(ROWS_MIN, this.#rows * factor));
  }
}
