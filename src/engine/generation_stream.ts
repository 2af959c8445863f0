/**
 * The consumer's end of one request: events wait here until they are read. Memory stays bounded
 * because the engine pauses a request whose consumer does not read (see engine.ts).
 */
import { assert } from "@/assert.ts";
import type { OperatingError } from "@/errors.ts";
import type { EngineEvent, Generation } from "./request.ts";

type Result = IteratorResult<EngineEvent, undefined>;

interface Waiter {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

const DONE: Result = { done: true, value: undefined };

/** What the consumer's side asks of the engine. */
export interface StreamOwner {
  finishChoice(choice: number): void;
  /** An event was read. */
  onRead(): void;
  /** The consumer left before the end. */
  onLeave(): void;
}

export class GenerationStream implements Generation, AsyncIterator<EngineEvent, undefined> {
  readonly #owner: StreamOwner;
  readonly #events: EngineEvent[] = [];
  #waiter: Waiter | undefined;
  #end: { readonly error: OperatingError | undefined } | undefined;

  constructor(owner: StreamOwner) {
    this.#owner = owner;
  }

  /** Events not yet read. */
  get unread(): number {
    return this.#events.length;
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  push(event: EngineEvent): void {
    assert(this.#end === undefined, `${event.type} event after the end`);
    if (this.#waiter) return this.#takeWaiter().resolve({ done: false, value: event });
    // Progress is a state, not a history: a newer report replaces an unread one.
    if (event.type === "prefill" && this.#events.at(-1)?.type === "prefill") this.#events.pop();
    this.#events.push(event);
  }

  /** No more events. Those waiting can still be read. */
  end(): void {
    if (this.#end) return;
    this.#end = { error: undefined };
    if (this.#waiter) this.#takeWaiter().resolve(DONE);
  }

  /** Fails the iteration: after the waiting events, or at once when they are `dropped`. */
  fail(error: OperatingError, options: { dropped: boolean } = { dropped: false }): void {
    if (this.#end) return;
    this.#end = { error };
    if (options.dropped) this.#events.length = 0;
    if (this.#waiter) this.#takeWaiter().reject(error);
  }

  finishChoice(choice: number): void {
    if (!this.#end) this.#owner.finishChoice(choice);
  }

  [Symbol.asyncIterator](): AsyncIterator<EngineEvent, undefined> {
    return this;
  }

  next(): Promise<Result> {
    const event = this.#events.shift();
    if (event !== undefined) {
      this.#owner.onRead();
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#end) {
      return this.#end.error ? Promise.reject(this.#end.error) : Promise.resolve(DONE);
    }
    assert(this.#waiter === undefined, "two readers of one generation");
    return new Promise((resolve, reject) => this.#waiter = { resolve, reject });
  }

  /** The consumer broke out of its loop. */
  return(): Promise<Result> {
    this.#events.length = 0;
    if (!this.#end) this.#owner.onLeave();
    this.end();
    return Promise.resolve(DONE);
  }

  #takeWaiter(): Waiter {
    const waiter = this.#waiter;
    assert(waiter !== undefined, "nobody waits");
    this.#waiter = undefined;
    return waiter;
  }
}
