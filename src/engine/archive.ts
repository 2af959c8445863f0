/**
 * Keeps KV pages and encoded tiles of one model in a disk store. A page's key is a hash over all
 * that its numbers depend on: the identity of the model (weights, numeric class, KV format, page
 * size) and the tokens and pictures from the sequence's first page to this one. Pages are stored
 * after their parents, because without them they could never be found. Decides nothing about steps.
 */
import { createHash } from "node:crypto";
import type { DiskStore, DiskStoreCounts } from "./disk_store.ts";
import type { CachedPage } from "./prefix_cache.ts";

export class Archive {
  readonly #store: DiskStore;
  readonly #identity: string;
  readonly #digests = new WeakMap<CachedPage, string>();

  /** `identity` tells apart everything that may change a bit of a page. */
  constructor(store: DiskStore, identity: string) {
    this.#store = store;
    this.#identity = digest("model", identity);
  }

  get counts(): DiskStoreCounts {
    return this.#store.counts;
  }

  /**
   * Stores cached pages that were used, parents first, as far as the queue has room; those that are
   * there count as used again. `read` gives a page's bytes.
   */
  async storePages(
    pages: readonly CachedPage[],
    read: (page: number) => Promise<Uint8Array>,
  ): Promise<void> {
    for (const cached of pages) {
      const key = this.#digestOf(cached);
      if (this.#store.has(key)) continue;
      if (cached.parent && !this.#store.has(this.#digestOf(cached.parent))) continue;
      // Asking first spares the copy; only the size of a page is not known yet.
      if (this.#store.accepts(1)) this.#store.put(key, await read(cached.page));
    }
    // Parents last: they are worth more, because no page is found without those before it.
    for (const cached of pages.toReversed()) this.#store.touch(this.#digestOf(cached));
  }

  /** Keys of the pages after `path` that are in the store, one after the other; at most `missing`. */
  findPages(path: readonly CachedPage[], missing: readonly string[]): string[] {
    const keys: string[] = [];
    let parent = this.#parentDigest(path);
    for (const pageKey of missing) {
      parent = digest(parent, pageKey);
      if (!this.#store.has(parent)) break;
      keys.push(parent);
    }
    return keys;
  }

  /** Bytes under a key of `findPages`. */
  async read(key: string): Promise<Uint8Array | undefined> {
    return await this.#store.get(key);
  }

  hasTile(hash: string): boolean {
    return this.#store.has(this.#tileKey(hash));
  }

  /** Visual tokens of a tile as bytes. */
  async readTile(hash: string): Promise<Uint8Array | undefined> {
    return await this.#store.get(this.#tileKey(hash));
  }

  storeTile(hash: string, bytes: Uint8Array): void {
    this.#store.put(this.#tileKey(hash), bytes);
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  #tileKey(hash: string): string {
    return digest(this.#identity, `tile ${hash}`);
  }

  #parentDigest(path: readonly CachedPage[]): string {
    const last = path.at(-1);
    return last ? this.#digestOf(last) : this.#identity;
  }

  /** Parents are digested first, so that no recursion is as deep as a prompt is long. */
  #digestOf(cached: CachedPage): string {
    const chain: CachedPage[] = [];
    for (let page: CachedPage | undefined = cached; page; page = page.parent) {
      if (this.#digests.has(page)) break;
      chain.push(page);
    }
    for (const page of chain.toReversed()) {
      const parent = page.parent ? this.#digests.get(page.parent)! : this.#identity;
      this.#digests.set(page, digest(parent, page.key));
    }
    return this.#digests.get(cached)!;
  }
}

function digest(parent: string, text: string): string {
  return createHash("sha256").update(parent).update("\n").update(text).digest("hex");
}
