import assert from "node:assert/strict";
import { EncoderCache } from "./encoder_cache.ts";

Deno.test("EncoderCache gives the oldest unpinned slot to a new tile", () => {
  const cache = new EncoderCache(2);
  const a = cache.acquire("a");
  const b = cache.acquire("b");
  assert.equal(cache.acquire("c"), undefined, "both slots are pinned");
  assert.equal(cache.acquire("a"), a, "a known tile keeps its slot");
  cache.release("a");
  assert.equal(cache.acquire("c"), undefined, "one pin of two is left");
  cache.release("b");
  cache.release("a");
  assert.equal(cache.acquire("c"), b, "b was used less recently");
  assert.equal(cache.has("b"), false);
  assert.equal(cache.has("a"), true);
  cache.checkIntegrity(new Map([["c", 1]]));
});

Deno.test("EncoderCache.drop() forgets a tile whose encoding failed", () => {
  const cache = new EncoderCache(1);
  cache.acquire("a");
  assert.throws(() => cache.drop("a"), /pinned/);
  cache.release("a");
  cache.drop("a");
  assert.equal(cache.has("a"), false);
  cache.checkIntegrity(new Map());
  assert.equal(cache.acquire("b"), 0);
  assert.throws(() => cache.release("a"), /not pinned/);
});
