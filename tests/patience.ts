/**
 * How long a test waits for other processes: as long as they may need on an idle machine, and
 * longer while this one is starved, as it then is for them too.
 */
import assert from "node:assert/strict";
import { cpuUsage } from "node:process";
import { systemClock } from "@/clock.ts";

/** How long one measurement computes, and how often it is made. */
const SAMPLE_MS = 15;
const SAMPLE_EVERY_MS = 1500;
/** A machine that is starved worse than this has to be given up at some time. */
const STARVATION_MAX = 20;
/** More between two looks means that this process stood still, and those that it waits for, too. */
const LOOK_MS_MAX = 2000;

/** Wall time over computing time of a little work: 1 on an idle machine. */
export function starvation(): number {
  const [startMs, before] = [systemClock.nowMs(), cpuUsage()];
  for (;;) {
    for (let i = 0; i < 20_000; i++) Math.sqrt(i);
    const { user, system } = cpuUsage(before);
    const computedMs = (user + system) / 1000;
    if (computedMs < SAMPLE_MS) continue;
    const wallMs = systemClock.nowMs() - startMs;
    return Math.min(STARVATION_MAX, Math.max(1, wallMs / computedMs));
  }
}

/** Counts the time that has passed for a process that had its share of the machine. */
export class Patience {
  #leftMs: number;
  #lastMs = systemClock.nowMs();
  #starvation = starvation();
  #measuredMs = systemClock.nowMs();

  constructor(ms: number) {
    this.#leftMs = ms;
  }

  get isOver(): boolean {
    const nowMs = systemClock.nowMs();
    this.#leftMs -= Math.min(LOOK_MS_MAX, nowMs - this.#lastMs) / this.#starvation;
    this.#lastMs = nowMs;
    if (nowMs - this.#measuredMs > SAMPLE_EVERY_MS) {
      // What was measured last counts as much as what was before: one sample says little.
      this.#starvation = (this.#starvation + starvation()) / 2;
      this.#measuredMs = this.#lastMs = systemClock.nowMs();
    }
    return this.#leftMs < 0;
  }
}

/** Waits until it is true; false when patience for `ms` is over before. */
export async function waitFor(
  ms: number,
  isTrue: () => boolean | Promise<boolean>,
  everyMs = 20,
): Promise<boolean> {
  const patience = new Patience(ms);
  while (!await isTrue()) {
    if (patience.isOver) return false;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return true;
}

/** How long anything may take that takes a second or a few on an idle machine. */
const EVENTUALLY_MS = 60_000;

/** Waits until it is true; fails when it never is. */
export async function eventually(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  everyMs?: number,
): Promise<void> {
  if (!await waitFor(EVENTUALLY_MS, isTrue, everyMs)) assert.fail(`never: ${what}`);
}
