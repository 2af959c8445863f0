import { deepEqual, equal, ok } from "node:assert/strict";
import { StepPacer } from "./step_pacer.ts";

const bounds = { stepTokens: 512, stepTiles: 4, stepMs: 400 };

/** A machine on which a row takes `rowMs` and a tile `tileMs`. */
function settle(pacer: StepPacer, machine: { rowMs: number; tileMs?: number }): void {
  for (let i = 0; i < 20; i++) {
    const { rows, tiles } = pacer.allowance(1);
    pacer.observe({ rows, tiles: 0, ms: rows * machine.rowMs });
    if (machine.tileMs) pacer.observe({ rows, tiles, ms: tiles * machine.tileMs });
  }
}

Deno.test("StepPacer grows to the bounds on a fast machine", () => {
  const pacer = new StepPacer(bounds);
  settle(pacer, { rowMs: 0.1, tileMs: 10 });
  deepEqual(pacer.allowance(1), { rows: 512, tiles: 4 });
});

Deno.test("StepPacer settles near the target time on a slow machine", () => {
  const pacer = new StepPacer(bounds);
  settle(pacer, { rowMs: 22, tileMs: 9000 });
  const { rows, tiles } = pacer.allowance(1);
  ok(rows >= 16 && rows <= 20, `${rows} rows`);
  equal(tiles, 1);
});

Deno.test("StepPacer always lets every running sequence decode", () => {
  const pacer = new StepPacer(bounds);
  settle(pacer, { rowMs: 1000 });
  equal(pacer.allowance(1).rows, 16);
  equal(pacer.allowance(40).rows, 40);
});

Deno.test("StepPacer learns nothing from a step that was small for want of work", () => {
  const pacer = new StepPacer(bounds);
  const before = pacer.allowance(1);
  for (let i = 0; i < 50; i++) pacer.observe({ rows: 1, tiles: 0, ms: 5 });
  deepEqual(pacer.allowance(1), before);
});

Deno.test("StepPacer gives a request that is alone longer steps, and learns the same from them", () => {
  const pacer = new StepPacer(bounds);
  const rowMs = 10;
  for (let i = 0; i < 20; i++) {
    const { rows } = pacer.allowance(1, 1);
    pacer.observe({ rows, tiles: 0, ms: rows * rowMs });
  }
  const [alone, among] = [pacer.allowance(1, 1).rows, pacer.allowance(1, 2).rows];
  ok(Math.abs(among * rowMs - bounds.stepMs) <= rowMs, `${among} rows beside others`);
  ok(Math.abs(alone * rowMs - 3 * bounds.stepMs) <= 3 * rowMs, `${alone} rows alone`);
});
