import assert from "node:assert/strict";
import { matcher, planGroups, type PlanOptions, rowName } from "./plan.ts";

const options = { all: false, smoke: false, repeats: 3 };
const namesOf = (changes: Partial<PlanOptions>) =>
  planGroups({ ...options, ...changes }).flatMap((group) =>
    group.measurements.map((measurement) => rowName(group, measurement))
  );

Deno.test("planGroups() names every row once", () => {
  for (const changes of [{}, { all: true }, { smoke: true }]) {
    const names = namesOf(changes);
    assert.deepEqual(names, [...new Set(names)]);
  }
});

Deno.test("planGroups() keeps the names that results are compared by", () => {
  assert.deepEqual(namesOf({}), [
    "load/1.7b/q4",
    "decode/1.7b/q4/b1",
    "prefill/1.7b/q4/512",
    "ttft/1.7b/q4/picture",
    "memory/1.7b/q4",
    "load/1.7b/q8",
    "decode/1.7b/q8/b1",
    "prefill/1.7b/q8/512",
    "memory/1.7b/q8",
    "vit/tile/int8",
    "step/skeleton",
  ]);
  const all = namesOf({ all: true });
  for (const name of ["batch/1.7b/q4/b16", "vit/tile/q4", "moe/decode/30b-a3b/q4"]) {
    assert.ok(all.includes(name), name);
  }
  assert.ok(all.includes("decode/8b/q4/b1"));
});

Deno.test("planGroups() leaves out groups without a wanted row", () => {
  assert.deepEqual(namesOf({ only: "vit/*" }), ["vit/tile/int8"]);
  assert.deepEqual(namesOf({ only: "nothing" }), []);
});

Deno.test("matcher() takes a star for anything and all else literally", () => {
  assert.ok(matcher("decode/*")("decode/1.7b/q4/b1"));
  assert.ok(matcher("*/1.7b/*")("decode/1.7b/q4/b1"));
  assert.ok(matcher("limits/*,decode/*")("decode/1.7b/q4/b1"));
  assert.ok(!matcher("limits/*,decode")("decode/1.7b/q4/b1"));
  assert.ok(!matcher("decode/1.7b")("decode/1.7b/q4/b1"));
  assert.ok(!matcher("decode/1.7b/*")("decode/147b/q4"));
});
