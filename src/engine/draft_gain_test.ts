import assert from "node:assert/strict";
import { AcceptanceRate, worthwhileDrafts } from "./draft_gain.ts";

/** A step costs `base` and `row` for each row. */
const cost = (base: number, row: number) => ({ ms: (rows: number) => base + row * rows });
const chances = (rate: number) => Array.from({ length: 8 }, (_, i) => rate ** (i + 1));

Deno.test("worthwhileDrafts() takes drafts where rows are cheap, and none where they are not", () => {
  const common = { rows: 1, margin: 0.05 };
  const free = worthwhileDrafts({ ...common, chances: chances(0.9), cost: cost(100, 0) });
  assert.equal(free, 8, "free rows take every draft");
  const dear = worthwhileDrafts({ ...common, chances: chances(0.9), cost: cost(0, 100) });
  assert.equal(dear, 0, "a row that costs a step never pays");
  const some = worthwhileDrafts({ ...common, chances: chances(0.6), cost: cost(100, 15) });
  assert.ok(some > 0 && some < 8, `${some} drafts`);
  const unknown = { ms: () => undefined };
  assert.equal(worthwhileDrafts({ ...common, chances: chances(0.9), cost: unknown }), 0);
});

Deno.test("worthwhileDrafts() is the best count by the formula", () => {
  const stairs = { ms: (rows: number) => rows === 1 ? 10 : rows <= 4 ? 16 : 30 };
  const offered = chances(0.8);
  const gain = (count: number) =>
    (1 + offered.slice(0, count).reduce((sum, chance) => sum + chance, 0)) / stairs.ms(1 + count);
  const best = [0, 1, 2, 3, 4, 5, 6, 7, 8].toSorted((a, b) => gain(b) - gain(a))[0];
  assert.equal(worthwhileDrafts({ rows: 1, chances: offered, cost: stairs, margin: 0 }), best);
  assert.equal(best, 3, "beyond the first row, which is dear");
});

Deno.test("AcceptanceRate starts from its prior, learns, and never promises certainty", () => {
  const rate = new AcceptanceRate({ rate: 0.5 }, 0.9);
  assert.equal(rate.rate, 0.5);
  for (let i = 0; i < 30; i++) rate.observe(4, 4);
  assert.ok(rate.rate > 0.9 && rate.rate <= 0.98);
  for (let i = 0; i < 30; i++) rate.observe(4, 0);
  assert.ok(rate.rate < 0.25, `${rate.rate}`);
  // Two of five accepted: the last two were never tried.
  const partial = new AcceptanceRate({ rate: 0 }, 1);
  for (let i = 0; i < 1000; i++) partial.observe(5, 2);
  assert.ok(Math.abs(partial.rate - 2 / 3) < 0.01);
});
