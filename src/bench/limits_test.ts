import assert from "node:assert/strict";
import { between, type Limits } from "./limits.ts";

const limits = (readGBs: number): Limits => ({ readGBs, i16Gops: 200, dot3Gops: 100, f32Gops: 50 });

Deno.test("between() is the mean of two moments, with peers that both of them have", () => {
  const before = { limits: limits(10), peers: { "llama.cpp": 8, wllama: 1 } };
  const after = { limits: limits(20), peers: { "llama.cpp": 12 } };
  assert.deepEqual(between(before, after), { limits: limits(15), peers: { "llama.cpp": 10 } });
});
