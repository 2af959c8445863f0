/**
 * A member's own side of its lease: when to ask the store for what, and whether to still trust the
 * lease. Pure. Times are those of sending, so the store can only drop us later than we think.
 */
import { assert } from "@/assert.ts";

/** What a member does about its lease now. */
export type LeaseAction = "join" | "renew" | undefined;

export class LeaseKeeper {
  readonly #ttlMs: number;
  readonly #renewMs: number;
  #fence = 0;
  #trustedMs = -Infinity;
  #askedMs = -Infinity;

  constructor(options: { ttlMs: number; renewMs: number }) {
    assert(options.renewMs * 2 <= options.ttlMs, "a lease survives one lost renewal");
    this.#ttlMs = options.ttlMs;
    this.#renewMs = options.renewMs;
  }

  get fence(): number {
    return this.#fence;
  }

  /** Says what to send now, and counts it as sent. Without an answer it asks again. */
  tick(nowMs: number): LeaseAction {
    if (nowMs - this.#askedMs < this.#renewMs) return undefined;
    this.#askedMs = nowMs;
    return this.#fence === 0 ? "join" : "renew";
  }

  /** The store granted or renewed the lease in answer to what was sent at `sentMs`. */
  granted(fence: number, sentMs: number): void {
    assert(fence > 0, "fences start at 1");
    if (fence < this.#fence) return;
    this.#fence = fence;
    this.#trustedMs = Math.max(this.#trustedMs, sentMs);
  }

  /** The store does not know the lease `fence` any more: the next tick takes a new one. */
  refused(fence: number): void {
    if (fence !== this.#fence) return;
    this.#fence = 0;
    this.#trustedMs = -Infinity;
    this.#askedMs = -Infinity;
  }

  isHeld(nowMs: number): boolean {
    return this.#fence > 0 && nowMs - this.#trustedMs < this.#ttlMs;
  }
}
