import { deepEqual, equal, ok } from "node:assert/strict";
import { PieceCache } from "./piece_cache.ts";

Deno.test("PieceCache stays within its bound and keeps what is used", () => {
  const cache = new PieceCache(10);
  cache.set("kept", [7]);
  for (let i = 0; i < 100; i++) {
    cache.set(`piece ${i}`, [i]);
    deepEqual(cache.get("kept"), [7]);
    ok(cache.size <= 10, `${cache.size} pieces`);
  }
  equal(cache.get("piece 0"), undefined);
  deepEqual(cache.get("piece 99"), [99]);
});

Deno.test("PieceCache finds pieces outside the basic plane", () => {
  const cache = new PieceCache();
  cache.set("😀é", [1, 2]);
  deepEqual(cache.get("😀é"), [1, 2]);
});
