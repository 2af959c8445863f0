/**
 * Full KV pages under what they hold: a tree whose edges are pages of tokens, so that prompts with
 * a common beginning share pages. Pages that only the cache holds are given up, least recently used
 * first, when a sequence needs one. It hands out and takes back all pages of all sequences.
 *
 * A sequence's cached pages are always a path from the root, so a page that nobody uses has no used
 * page below it, and releasing deepest first keeps `#unused` in an order where leaves come first.
 */
import { assert } from "@/assert.ts";
import type { KvPages } from "./kv_pages.ts";

/** A cached page. Its key says what the page holds; its path, what comes before. */
export interface CachedPage {
  readonly page: number;
  readonly key: string;
  readonly parent: CachedPage | undefined;
  readonly children: Map<string, CachedPage>;
}

/** A page that is put back, and what writes its keys and values into the page it gets. */
export interface RestoredPage {
  readonly key: string;
  readonly fill: (page: number) => void;
}

export class PrefixCache {
  readonly #pages: KvPages;
  readonly #roots = new Map<string, CachedPage>();
  readonly #byPage = new Map<number, CachedPage>();
  /** Cached pages that no sequence uses, least recently used first. */
  readonly #unused = new Set<CachedPage>();
  #evictions = 0;

  constructor(pages: KvPages) {
    this.#pages = pages;
  }

  /** Pages a sequence could get now. */
  get availableCount(): number {
    return this.#pages.freeCount + this.#unused.size;
  }

  /** Cached pages given up so far. */
  get evictions(): number {
    return this.#evictions;
  }

  get cachedCount(): number {
    return this.#byPage.size;
  }

  /** Cached pages that no sequence uses. */
  get unusedCount(): number {
    return this.#unused.size;
  }

  isUnused(cached: CachedPage): boolean {
    return this.#unused.has(cached);
  }

  /** The longest cached path along `keys`. Nothing is retained. */
  match(keys: Iterable<string>): CachedPage[] {
    const path: CachedPage[] = [];
    let children = this.#roots;
    for (const key of keys) {
      const next = children.get(key);
      if (next === undefined) break;
      path.push(next);
      children = next.children;
    }
    return path;
  }

  /** A sequence starts to use a cached page. */
  retain(cached: CachedPage): number {
    this.#pages.retain(cached.page);
    this.#unused.delete(cached);
    return cached.page;
  }

  /** A page for one sequence; gives up an unused cached page when none is free. */
  allocate(): number | undefined {
    if (this.#pages.freeCount === 0) this.#evictOldest();
    return this.#pages.allocate();
  }

  /**
   * Files a full page of a sequence under `key` below `parent`. When an equal page is there
   * already, the sequence's page is freed and the sequence uses the cached one (`result.page`):
   * a row's numbers depend on the tokens before it alone, so both hold the same bits.
   */
  insert(parent: CachedPage | undefined, key: string, page: number): CachedPage {
    const siblings = parent ? parent.children : this.#roots;
    const existing = siblings.get(key);
    if (existing !== undefined) {
      if (existing.page === page) return existing;
      this.retain(existing);
      this.#pages.release(page);
      return existing;
    }
    const cached: CachedPage = { page, key, parent, children: new Map() };
    siblings.set(key, cached);
    this.#byPage.set(page, cached);
    this.#pages.retain(page);
    return cached;
  }

  /**
   * Files pages that were computed earlier below `path`, each filled by its function, as long as
   * pages can be had. Nobody uses them yet. Returns the path with what was filed or found.
   */
  restore(path: readonly CachedPage[], pages: readonly RestoredPage[]): CachedPage[] {
    const whole = [...path];
    const held = path.map((cached) => this.retain(cached));
    try {
      for (const { key, fill } of pages) {
        const page = this.allocate();
        if (page === undefined) break;
        held.push(page);
        fill(page);
        const cached = this.insert(whole.at(-1), key, page);
        held[held.length - 1] = cached.page;
        whole.push(cached);
      }
    } finally {
      this.release(held);
    }
    return whole;
  }

  /** Takes back all pages of a sequence, in sequence order. */
  release(pages: readonly number[]): void {
    for (const page of pages.toReversed()) {
      const left = this.#pages.release(page);
      const cached = this.#byPage.get(page);
      if (cached !== undefined && left === 1) this.#unused.add(cached);
    }
  }

  /** Forgets every page that no sequence uses. */
  clear(): void {
    while (this.#unused.size > 0) this.#evictOldest();
  }

  /** Asserts the tree's invariants; `held` counts the references of sequences. */
  checkIntegrity(held: ReadonlyMap<number, number>): void {
    const expected = new Map(held);
    for (const [page, cached] of this.#byPage) {
      const used = held.get(page) ?? 0;
      expected.set(page, used + 1);
      assert(this.#unused.has(cached) === (used === 0), `page ${page}: used ${used}, listed wrong`);
      const siblings = cached.parent ? cached.parent.children : this.#roots;
      assert(siblings.get(cached.key) === cached, `page ${page} is not below its parent`);
      if (used > 0 && cached.parent) {
        assert((held.get(cached.parent.page) ?? 0) >= 1, `page ${page} is used without its prefix`);
      }
    }
    const seen = new Set<CachedPage>();
    for (const cached of this.#unused) {
      seen.add(cached);
      for (const child of cached.children.values()) {
        assert(seen.has(child), "evicts a parent first");
      }
    }
    this.#pages.checkIntegrity(expected);
  }

  #evictOldest(): void {
    const [oldest] = this.#unused;
    if (oldest === undefined) return;
    assert(oldest.children.size === 0, "the least recently used page has pages below it");
    this.#unused.delete(oldest);
    this.#byPage.delete(oldest.page);
    this.#evictions += 1;
    (oldest.parent ? oldest.parent.children : this.#roots).delete(oldest.key);
    const left = this.#pages.release(oldest.page);
    assert(left === 0, `evicted page ${oldest.page} has ${left} references`);
  }
}
