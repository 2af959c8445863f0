/**
 * A failure that may come at any time while others are waited for. `Promise.race` with a promise
 * that never settles would do the same and keep every waiter for ever: that promise remembers all
 * who ever raced it.
 */
export class LateFailure {
  readonly #waiting = new Set<(error: unknown) => void>();
  #failed: { readonly error: unknown } | undefined;

  /** Tells all who wait, and all who will. The first failure counts. */
  fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = { error };
    for (const reject of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  get hasCome(): boolean {
    return this.#failed !== undefined;
  }

  /** Throws the failure if it is there. */
  throwIfCome(): void {
    if (this.#failed) throw this.#failed.error;
  }

  /** Who waits now. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** What the promise comes to, or the failure if that is first. */
  async unlessFirst<T>(promise: Promise<T>): Promise<T> {
    const { promise: failure, reject } = Promise.withResolvers<never>();
    if (this.#failed) reject(this.#failed.error);
    else this.#waiting.add(reject);
    try {
      return await Promise.race([failure, promise]);
    } finally {
      this.#waiting.delete(reject);
    }
  }
}
