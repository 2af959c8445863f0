/**
 * When to ping a peer, when its silence means that it is lost, and how long a round trip takes.
 * Driven by `tick`; it owns no timer and sends nothing.
 */

/** Round-trip times, smoothed as in RFC 6298. */
export interface RoundTrip {
  readonly lastMs: number;
  readonly smoothedMs: number;
  /** Smoothed mean deviation from the smoothed time. */
  readonly deviationMs: number;
  readonly minMs: number;
}

/** Unanswered pings that are remembered: older answers are not measured. */
const PINGS_KEPT = 16;

export class Heartbeat {
  readonly #intervalMs: number;
  readonly #silenceMs: number;
  readonly #sent: number[] = [];
  #heardMs: number;
  #pingMs: number;
  #tickMs: number;
  #roundTrip: RoundTrip | undefined;

  constructor(options: { intervalMs: number; silenceMs: number; nowMs: number }) {
    this.#intervalMs = options.intervalMs;
    this.#silenceMs = options.silenceMs;
    this.#heardMs = this.#pingMs = this.#tickMs = options.nowMs;
  }

  get roundTrip(): RoundTrip | undefined {
    return this.#roundTrip;
  }

  /** Something arrived: any byte is a sign of life. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** To be called about every interval. After "ping" the caller sends one with `nowMs`. */
  tick(nowMs: number): "wait" | "ping" | "silent" {
    const pausedMs = nowMs - this.#tickMs - this.#intervalMs;
    this.#tickMs = nowMs;
    // This process was not running: what the peer sent meanwhile may still be unread.
    if (pausedMs > this.#intervalMs) this.#heardMs += pausedMs;
    if (nowMs - this.#heardMs > this.#silenceMs) return "silent";
    if (nowMs - this.#pingMs < 0.9 * this.#intervalMs) return "wait";
    this.#pingMs = nowMs;
    this.#sent.push(nowMs);
    if (this.#sent.length > PINGS_KEPT) this.#sent.shift();
    return "ping";
  }

  /** An answer to the ping of `sentMs`. Answers to pings that were never sent are ignored. */
  answered(sentMs: number, nowMs: number): void {
    const place = this.#sent.indexOf(sentMs);
    if (place < 0) return;
    this.#sent.splice(0, place + 1);
    const lastMs = nowMs - sentMs;
    const before = this.#roundTrip;
    if (before === undefined) {
      const [smoothedMs, deviationMs] = [lastMs, lastMs / 2];
      this.#roundTrip = { lastMs, smoothedMs, deviationMs, minMs: lastMs };
      return;
    }
    const error = Math.abs(before.smoothedMs - lastMs);
    this.#roundTrip = {
      lastMs,
      smoothedMs: before.smoothedMs + (lastMs - before.smoothedMs) / 8,
      deviationMs: before.deviationMs + (error - before.deviationMs) / 4,
      minMs: Math.min(before.minMs, lastMs),
    };
  }
}
