import assert from "node:assert/strict";
import { erfc } from "./erf.ts";

Deno.test("erfc() equals the C library's values on both expansions", () => {
  const table = [
    [0, 1],
    [1e-8, 0.9999999887162083],
    [0.5, 0.4795001221869535],
    [1, 0.15729920705028513],
    [1.5, 0.033894853524689274],
    [1.5001, 0.033882962279582506],
    [2, 0.004677734981047265],
    [2.0000001, 0.004677732914349147],
    [3, 2.2090496998585438e-5],
    [5, 1.5374597944280351e-12],
    [10, 2.088487583762545e-45],
    [-0.5, 1.5204998778130465],
    [-3, 1.9999779095030015],
    [-40, 2],
  ] as const;
  for (const [x, want] of table) {
    assert.ok(Math.abs(erfc(x) / want - 1) < 1e-14, `erfc(${x}) is ${erfc(x)}, expected ${want}`);
  }
});
