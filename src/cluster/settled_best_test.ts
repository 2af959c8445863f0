import assert from "node:assert/strict";
import { settledBest } from "./settled_best.ts";

/** The best of runs that take so long each, and how long it took to find. */
async function bestOf(msOfRun: (nowMs: number, number: number) => number) {
  let [nowMs, number] = [0, 0];
  const run = () => {
    nowMs += msOfRun(nowMs, number++);
    return undefined;
  };
  return { best: await settledBest({ run, nowMs: () => nowMs }), nowMs, runs: number };
}

Deno.test("settledBest() waits for code that gets faster late", async () => {
  const warming = (nowMs: number) => nowMs < 150 ? 0.5 : nowMs < 290 ? 0.2 : 0.05;
  const { best, nowMs } = await bestOf(warming);
  assert.ok(Math.abs(best - 0.05) < 1e-9, `${best}`);
  assert.ok(nowMs < 600, `${nowMs} ms`);
});

Deno.test("settledBest() of steady runs is found in a quarter of a second", async () => {
  const { best, nowMs } = await bestOf((_, number) => number % 7 === 3 ? 0.02 : 0.03);
  assert.ok(Math.abs(best - 0.02) < 1e-9, `${best}`);
  assert.ok(nowMs >= 180 && nowMs < 260, `${nowMs} ms`);
});

Deno.test("settledBest() ends with patience, and does slow things a few times", async () => {
  const falling = await bestOf((nowMs) => 10 * 0.7 ** (nowMs / 60));
  assert.ok(falling.nowMs > 1900 && falling.nowMs < 2100, `${falling.nowMs} ms`);
  const slow = await bestOf(() => 900);
  assert.ok(slow.runs >= 8 && slow.runs <= 16, `${slow.runs} runs`);
  assert.equal(slow.best, 900);
});
