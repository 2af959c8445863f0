/** Several event sources read as one, in the order the events come. Sources may join on the way. */

export interface MergedEvent<S, T> {
  readonly source: S;
  readonly event: T;
}

/**
 * Iterate it once. When the iteration ends early or a source throws, `onAbandon` must make the
 * remaining sources end; what they throw then is dropped.
 */
export class MergedEvents<S, T> implements AsyncIterable<MergedEvent<S, T>> {
  readonly #pending = new Map<AsyncIterator<T>, Promise<Pulled<S, T>>>();
  readonly #onAbandon: () => void;

  constructor(onAbandon: () => void) {
    this.#onAbandon = onAbandon;
  }

  /** Adds a source; its first event is asked for at once. */
  add(source: S, events: AsyncIterable<T>): void {
    this.#pull(source, events[Symbol.asyncIterator]());
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MergedEvent<S, T>> {
    let isDone = false;
    try {
      while (this.#pending.size > 0) {
        const { source, iterator, result } = await Promise.race(this.#pending.values());
        this.#pending.delete(iterator);
        if (result.done) continue;
        yield { source, event: result.value };
        this.#pull(source, iterator);
      }
      isDone = true;
    } finally {
      if (!isDone) {
        this.#onAbandon();
        await Promise.allSettled(this.#pending.values());
      }
    }
  }

  #pull(source: S, iterator: AsyncIterator<T>): void {
    const pulled = iterator.next().then((result) => ({ source, iterator, result }));
    // The next race reports a failure; until then it must not count as unhandled.
    pulled.catch(() => {});
    this.#pending.set(iterator, pulled);
  }
}

interface Pulled<S, T> {
  readonly source: S;
  readonly iterator: AsyncIterator<T>;
  readonly result: IteratorResult<T>;
}
