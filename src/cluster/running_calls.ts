/**
 * All calls that run in a front, and their one timer. Setting and clearing a timer for every call
 * and answer costs more than to wake up now and then for nothing. A timer that is very late shows
 * that this process was stopped or held up: sockets are read before anybody is judged.
 */
import type { Clock } from "@/clock.ts";
import { limits } from "@/limits.ts";
import type { NodeId } from "./placement.ts";

/** What is kept here; `RunningLayerCall` in the product. */
export interface TimedCall {
  readonly wakeMs: number;
  tick(): void;
  stalled(ms: number): void;
  nodeLost(node: NodeId): void;
}

export class RunningCalls {
  readonly #clock: Clock;
  readonly #calls = new Set<TimedCall>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer fires; Infinity without one. */
  #firesMs = Infinity;
  /** The last timer was very late; the next one counts in any case. */
  #hasStalled = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#calls.size;
  }

  add(call: TimedCall): void {
    this.#calls.add(call);
  }

  delete(call: TimedCall): void {
    this.#calls.delete(call);
  }

  /** A call wants its `tick` then, or later if it has changed its mind. */
  wakeAt(ms: number): void {
    if (ms >= this.#firesMs) return;
    clearTimeout(this.#timer);
    this.#firesMs = ms;
    const waitMs = Math.max(0, Math.ceil(ms - this.#clock.nowMs()));
    this.#timer = setTimeout(() => this.#fire(), waitMs);
  }

  /** The connection to a node ended. */
  nodeLost(node: NodeId): void {
    for (const call of [...this.#calls]) call.nodeLost(node);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #fire(): void {
    const nowMs = this.#clock.nowMs();
    const lateMs = nowMs - this.#firesMs;
    this.#firesMs = Infinity;
    this.#hasStalled = !this.#hasStalled && lateMs > limits.frontStallMs;
    if (this.#hasStalled) { for (const call of this.#calls) call.stalled(lateMs); }
    else for (const call of [...this.#calls]) if (call.wakeMs <= nowMs) call.tick();
    let nextMs = Infinity;
    for (const { wakeMs } of this.#calls) nextMs = Math.min(nextMs, wakeMs);
    this.wakeAt(nextMs);
  }
}
