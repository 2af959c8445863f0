/**
 * How fast a shard is now, compared with itself: the time of its calls against the least time that
 * calls of the same size ever took here. Rows per second alone would not do, since calls with many
 * rows read each expert once: the node with most of the work would look fastest and get more.
 * Synchronous; it sends nothing.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";

/** What was computed for one call, in milliseconds. */
export interface MeasuredCall {
  readonly pairs: number;
  /** Different experts among the pairs. */
  readonly experts: number;
  readonly computeMs: number;
}

export class SpeedMeter {
  /** Least milliseconds by size, of calls alone: code that does nothing else at the start is faster. */
  readonly #best = new Map<number, number>();
  /** Of one pair, as measured at the start. */
  readonly #startMs: number;
  /** Time of the calls, and the least time for as many of the same sizes; both fade. */
  #actualMs = 0;
  #bestMs = 0;
  #fadedMs: number;
  #announced: number;
  #announcedMs: number;

  /** `speed`: pairs per second as they were measured at the start, one at a time. */
  constructor(speed: number, nowMs: number) {
    assert(speed > 0, `speed ${speed}`);
    this.#startMs = 1000 / speed;
    this.#announced = speed;
    this.#fadedMs = this.#announcedMs = nowMs;
  }

  add(call: MeasuredCall, nowMs: number): void {
    const size = sizeOf(call);
    const computeMs = Math.max(COMPUTE_MS_MIN, call.computeMs);
    const best = Math.min(this.#best.get(size) ?? Infinity, computeMs);
    this.#best.set(size, best);
    this.#fade(nowMs);
    this.#actualMs += computeMs;
    this.#bestMs += best;
  }

  /** The machine at its best: what was measured at the start may have been a bad moment. */
  get #nominal(): number {
    return 1000 / Math.min(this.#startMs, this.#best.get(sizeOf(ONE_PAIR)) ?? Infinity);
  }

  /** Pairs per second, smoothed. Without calls for a while it is the nominal one again. */
  speed(nowMs: number): number {
    this.#fade(nowMs);
    const [actual, best] = [this.#actualMs, this.#bestMs].map((ms) => ms + PRIOR_MS);
    return this.#nominal * best! / actual!;
  }

  /**
   * The speed that planners shall know from now on; undefined while the one that they know is near
   * enough, or was told a short time ago.
   */
  announcement(nowMs: number): number | undefined {
    const speed = this.speed(nowMs);
    const ratio = speed / this.#announced;
    const isNear = ratio < limits.speedChangeMin && ratio > 1 / limits.speedChangeMin;
    if (isNear || nowMs - this.#announcedMs < limits.speedAnnounceMs) return undefined;
    this.#announced = speed;
    this.#announcedMs = nowMs;
    return speed;
  }

  #fade(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - this.#fadedMs);
    const kept = 2 ** (-elapsedMs / limits.speedHalfLifeMs);
    this.#actualMs *= kept;
    this.#bestMs *= kept;
    this.#fadedMs = nowMs;
  }
}

/** Calls of similar sizes are compared: within a fifth, and up to eight of the same number. */
function sizeOf({ pairs, experts }: MeasuredCall): number {
  const [pairsClass, expertsClass] = [pairs, experts].map((count) =>
    Math.round(4 * Math.log2(Math.max(1, count)))
  );
  return SIZE_CLASSES * expertsClass! + pairsClass!;
}

const ONE_PAIR: MeasuredCall = { pairs: 1, experts: 1, computeMs: 0 };

/** More than four times the logarithm of any count. */
const SIZE_CLASSES = 128;

/** Clocks do not tell less. */
const COMPUTE_MS_MIN = 0.001;
/** Computing at nominal speed that is assumed beside what was measured. */
const PRIOR_MS = 20;
