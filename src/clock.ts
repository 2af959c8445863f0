/** Time as a passed-in value: schedulers and caches never read the wall clock themselves. */
export interface Clock {
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Milliseconds since the Unix epoch. */
  epochMs(): number;
}

/** The real clock. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  epochMs: () => Date.now(),
};
