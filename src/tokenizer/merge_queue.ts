/**
 * Priority queue over two integers, in typed arrays: what BPE needs to pick the next merge, at
 * encoding (rank, position) and at training (-count, pair). Owns no notion of tokens.
 */

/** Children per node; four keep the heap shallow, so a pop touches fewer cache lines than two. */
const ARITY = 4;

/** Min-heap of (priority, payload); equal priorities come out by ascending payload. */
export class MergeQueue {
  #priorities: Int32Array;
  #payloads: Int32Array;
  #length = 0;
  /** Payload of the entry that `pop` removed last. */
  payload = -1;
  /** Entries compared since creation: a measure of work that does not depend on the machine. */
  comparisonCount = 0;

  constructor(capacity = 64) {
    this.#priorities = new Int32Array(capacity);
    this.#payloads = new Int32Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  push(priority: number, payload: number): void {
    if (this.#length === this.#priorities.length) this.#grow();
    let hole = this.#length++;
    while (hole > 0) {
      const parent = ((hole - 1) / ARITY) | 0;
      if (!this.#isBefore(priority, payload, parent)) break;
      this.#move(parent, hole);
      hole = parent;
    }
    this.#priorities[hole] = priority;
    this.#payloads[hole] = payload;
  }

  /** Removes the least entry: returns its priority and leaves the rest in `payload`. */
  pop(): number {
    if (this.#length === 0) throw new RangeError("Cannot pop from an empty queue");
    const priority = this.#priorities[0]!;
    this.payload = this.#payloads[0]!;
    const last = --this.#length;
    if (last > 0) this.#sink(this.#priorities[last]!, this.#payloads[last]!);
    return priority;
  }

  clear(): void {
    this.#length = 0;
  }

  #sink(priority: number, payload: number): void {
    let hole = 0;
    for (;;) {
      const firstChild = hole * ARITY + 1;
      if (firstChild >= this.#length) break;
      const end = Math.min(firstChild + ARITY, this.#length);
      let least = firstChild;
      for (let child = firstChild + 1; child < end; child++) {
        if (!this.#isBefore(this.#priorities[least]!, this.#payloads[least]!, child)) least = child;
      }
      if (this.#isBefore(priority, payload, least)) break;
      this.#move(least, hole);
      hole = least;
    }
    this.#priorities[hole] = priority;
    this.#payloads[hole] = payload;
  }

  #isBefore(priority: number, payload: number, other: number): boolean {
    this.comparisonCount++;
    const difference = priority - this.#priorities[other]!;
    return difference < 0 || (difference === 0 && payload < this.#payloads[other]!);
  }

  #move(from: number, to: number): void {
    this.#priorities[to] = this.#priorities[from]!;
    this.#payloads[to] = this.#payloads[from]!;
  }

  #grow(): void {
    const capacity = Math.max(64, this.#priorities.length * 2);
    const priorities = new Int32Array(capacity);
    const payloads = new Int32Array(capacity);
    priorities.set(this.#priorities);
    payloads.set(this.#payloads);
    this.#priorities = priorities;
    this.#payloads = payloads;
  }
}
