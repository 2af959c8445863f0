import assert from "node:assert/strict";
import { decodeLoad, encodeLoad } from "./load_bytes.ts";

Deno.test("decodeLoad() reads what encodeLoad() writes, and refuses what is no load", () => {
  const load = Float64Array.of(0, 0.5, 1e6);
  const bytes = encodeLoad(load);
  assert.deepEqual(decodeLoad(bytes, 3), load);
  const inside = new Uint8Array(13);
  inside.set(bytes, 1);
  assert.deepEqual(decodeLoad(inside.subarray(1), 3), load, "at any place of a buffer");
  assert.throws(() => decodeLoad(bytes, 4), /12 bytes: 16 are expected/);
  assert.throws(() => decodeLoad(bytes.subarray(1), 3), /11 bytes/);
  for (const wrong of [-1, NaN, Infinity]) {
    assert.throws(() => decodeLoad(encodeLoad(Float64Array.of(1, wrong)), 2), /per second/);
  }
});
