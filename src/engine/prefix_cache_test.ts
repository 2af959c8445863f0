import assert from "node:assert/strict";
import { KvPages } from "./kv_pages.ts";
import { type CachedPage, PrefixCache } from "./prefix_cache.ts";

/** Files pages for `keys` as a sequence would; returns its pages. */
function fill(cache: PrefixCache, keys: readonly string[]): number[] {
  let parent: CachedPage | undefined;
  return keys.map((key) => {
    parent = cache.insert(parent, key, cache.allocate()!);
    return parent.page;
  });
}

function matched(cache: PrefixCache, keys: readonly string[]): number[] {
  return cache.match(keys).map((cached) => cached.page);
}

Deno.test("PrefixCache.match() finds the longest cached beginning", () => {
  const cache = new PrefixCache(new KvPages(8));
  const pages = fill(cache, ["a", "b", "c"]);
  assert.deepEqual(matched(cache, ["a", "b", "c", "d"]), pages);
  assert.deepEqual(matched(cache, ["a", "x", "c"]), pages.slice(0, 1));
  assert.deepEqual(matched(cache, ["b", "c"]), [], "a page counts only after what came before it");
});

Deno.test("PrefixCache keeps released pages and gives up the least recently used first", () => {
  const cache = new PrefixCache(new KvPages(4));
  const old = fill(cache, ["a", "b"]);
  cache.release(old);
  const recent = fill(cache, ["c", "d"]);
  cache.release(recent);
  assert.equal(cache.availableCount, 4);
  for (const cached of cache.match(["a", "b"])) cache.retain(cached);
  cache.release(old); // used again: now the newest
  assert.equal(cache.allocate(), recent[1], "the deepest page of the oldest path goes first");
  assert.deepEqual(matched(cache, ["c", "d"]), recent.slice(0, 1));
  assert.equal(cache.allocate(), recent[0]);
  assert.deepEqual(matched(cache, ["a", "b"]), old);
});

Deno.test("PrefixCache.allocate() never takes a page in use", () => {
  const cache = new PrefixCache(new KvPages(2));
  const pages = fill(cache, ["a", "b"]);
  assert.equal(cache.allocate(), undefined);
  cache.checkIntegrity(new Map(pages.map((page) => [page, 1])));
  cache.release(pages);
  cache.checkIntegrity(new Map());
  assert.notEqual(cache.allocate(), undefined);
});

Deno.test("PrefixCache.insert() frees a duplicate page and answers with the cached one", () => {
  const pages = new KvPages(4);
  const cache = new PrefixCache(pages);
  const first = fill(cache, ["a"]);
  const second = fill(cache, ["a"]);
  assert.deepEqual(second, first);
  assert.equal(pages.freeCount, 3);
  cache.checkIntegrity(new Map([[first[0]!, 2]]));
  cache.release(first);
  assert.equal(cache.unusedCount, 0);
  cache.release(second);
  assert.equal(cache.unusedCount, 1);
  cache.clear();
  assert.equal(pages.freeCount, 4);
});
