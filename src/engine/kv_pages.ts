/**
 * Who holds which KV page: reference counts and the free list. It knows page numbers only; the
 * data lives in the backend, the meaning in prefix_cache.ts.
 */
import { assert } from "@/assert.ts";

export class KvPages {
  readonly total: number;
  readonly #references: Uint32Array;
  /** Free pages; the last one is handed out next. */
  readonly #free: number[];

  constructor(total: number) {
    assert(total >= 1, `${total} KV pages`);
    this.total = total;
    this.#references = new Uint32Array(total);
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** A page with one reference, or undefined when none is free. */
  allocate(): number | undefined {
    const page = this.#free.pop();
    if (page !== undefined) this.#references[page] = 1;
    return page;
  }

  /** Adds a reference to a page in use. Returns the new count. */
  retain(page: number): number {
    assert(this.references(page) > 0, `page ${page} is retained while free`);
    return ++this.#references[page]!;
  }

  /** Drops a reference; the page is free at zero. Returns the new count. */
  release(page: number): number {
    assert(this.references(page) > 0, `page ${page} is released while free`);
    const left = --this.#references[page]!;
    if (left === 0) this.#free.push(page);
    return left;
  }

  references(page: number): number {
    const count = this.#references[page];
    assert(count !== undefined, `page ${page} of ${this.total}`);
    return count;
  }

  /** Asserts that the counts equal `expected` (page -> references) and the free list fits them. */
  checkIntegrity(expected: ReadonlyMap<number, number>): void {
    for (let page = 0; page < this.total; page++) {
      const [have, want] = [this.#references[page]!, expected.get(page) ?? 0];
      assert(have === want, `page ${page} has ${have} references, ${want} holders`);
    }
    const free = new Set(this.#free);
    assert(free.size === this.#free.length, "a page is free twice");
    for (const page of free) assert(this.#references[page] === 0, `page ${page} is used and free`);
    assert(free.size + expected.size === this.total, "a page is neither used nor free");
  }
}
