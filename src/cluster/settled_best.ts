/**
 * The least time of something that gets faster while it is done again and again: compilers replace
 * code in the background for most of a second where other programs take their turns, and the best of
 * a fixed time would differ eightfold between equal machines.
 */

export interface SettledBestOptions {
  /** Does it once. */
  readonly run: () => Promise<unknown> | undefined;
  /** Monotonic, in milliseconds. */
  readonly nowMs: () => number;
}

/** Least milliseconds, once windows in a row found nothing much better, or at the end of patience. */
export async function settledBest({ run, nowMs }: SettledBestOptions): Promise<number> {
  const endMs = nowMs() + PATIENCE_MS;
  let [best, settled, runs] = [Infinity, 0, 0];
  while (settled < SETTLED_WINDOWS && (runs < RUNS_MIN || nowMs() < endMs)) {
    const before = best;
    const windowEndMs = nowMs() + WINDOW_MS;
    for (let i = 0; i < WINDOW_RUNS_MIN || nowMs() < windowEndMs; i++, runs++) {
      const startMs = nowMs();
      // Waits only where there is something to wait for: turns of the event loop are not its time.
      const running = run();
      if (running) await running;
      best = Math.min(best, nowMs() - startMs);
    }
    settled = best > BETTER * before ? settled + 1 : 0;
  }
  return best;
}

/** A window that gains less than a tenth gains nothing. */
const BETTER = 0.9;
const SETTLED_WINDOWS = 3;
const WINDOW_MS = 60;
const WINDOW_RUNS_MIN = 4;
const RUNS_MIN = 8;
const PATIENCE_MS = 2000;
