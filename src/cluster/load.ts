/**
 * How many tokens each expert receives, as moving averages per kind of token. Synchronous: time is
 * told by `tick`. It counts; what to do about it is planner.ts.
 */
import { assert } from "@/assert.ts";
import type { ExpertGrid } from "./expert_grid.ts";

/** Prompt text, sampled tokens, visual tokens of a prompt. */
export const tokenKinds = ["prefill", "decode", "vision"] as const;
export type TokenKind = typeof tokenKinds[number];

export class ExpertLoad {
  readonly grid: ExpertGrid;
  readonly #meanLifeMs: number;
  /** Tokens since the last tick, and tokens per second, by kind and slot. */
  readonly #fresh: Record<TokenKind, Float64Array>;
  readonly #rate: Record<TokenKind, Float64Array>;
  #lastMs: number | undefined;

  constructor(grid: ExpertGrid, options: { halfLifeMs: number }) {
    assert(options.halfLifeMs > 0, `half-life of ${options.halfLifeMs} ms`);
    this.grid = grid;
    this.#meanLifeMs = options.halfLifeMs / Math.LN2;
    const arrays = () => ({
      prefill: new Float64Array(grid.size),
      decode: new Float64Array(grid.size),
      vision: new Float64Array(grid.size),
    });
    this.#fresh = arrays();
    this.#rate = arrays();
  }

  /** Counts one layer's routing: `expertIndex` [rows * choices]; one kind, or one per row. */
  add(args: {
    layer: number;
    expertIndex: Int32Array;
    choices: number;
    kinds: TokenKind | readonly TokenKind[];
  }): void {
    const { expertIndex, choices, kinds } = args;
    const first = this.grid.firstSlot(args.layer);
    for (let pair = 0; pair < expertIndex.length; pair++) {
      const kind = typeof kinds === "string" ? kinds : kinds[Math.floor(pair / choices)]!;
      this.#fresh[kind][first + expertIndex[pair]!]! += 1;
    }
  }

  /** Folds the tokens since the last tick into the averages; the first tick only sets the time. */
  tick(nowMs: number): void {
    const elapsedMs = nowMs - (this.#lastMs ?? nowMs);
    if (this.#lastMs !== undefined && elapsedMs <= 0) return;
    this.#lastMs = nowMs;
    if (elapsedMs === 0) return;
    const kept = Math.exp(-elapsedMs / this.#meanLifeMs);
    const perSecond = (1 - kept) * 1000 / elapsedMs;
    for (const kind of tokenKinds) {
      const [fresh, rate] = [this.#fresh[kind], this.#rate[kind]];
      for (let slot = 0; slot < rate.length; slot++) {
        rate[slot] = rate[slot]! * kept + fresh[slot]! * perSecond;
      }
      fresh.fill(0);
    }
  }

  /** Tokens per second of one kind, by slot. A view: it changes with the next tick. */
  rates(kind: TokenKind): Float64Array {
    return this.#rate[kind];
  }

  /** Tokens per second of all kinds, by slot. */
  total(): Float64Array {
    const { prefill, decode, vision } = this.#rate;
    return prefill.map((rate, slot) => rate + decode[slot]! + vision[slot]!);
  }
}

/** Sum of loads by slot, e.g. of several fronts. */
export function addLoads(loads: readonly Float64Array[], size: number): Float64Array {
  const sum = new Float64Array(size);
  for (const load of loads) {
    assert(load.length === size, `load of ${load.length} experts, not ${size}`);
    for (let slot = 0; slot < size; slot++) sum[slot]! += load[slot]!;
  }
  return sum;
}
