import assert from "node:assert/strict";
import { activationEntropy, layerEntropies, maxOverMean } from "./entropy.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { addLoads, ExpertLoad } from "./load.ts";

const grid = new ExpertGrid({ layers: [0, 1], experts: 4 });

Deno.test("ExpertLoad keeps kinds apart and tends to the true rate whatever the tick", () => {
  for (const stepMs of [10, 250, 1000]) {
    const load = new ExpertLoad(grid, { halfLifeMs: 500 });
    load.tick(0);
    for (let nowMs = stepMs; nowMs <= 20_000; nowMs += stepMs) {
      const expertIndex = new Int32Array(stepMs / 10 * 2).fill(3);
      load.add({ layer: 1, expertIndex, choices: 2, kinds: "decode" });
      load.add({
        layer: 0,
        expertIndex: Int32Array.of(0, 1),
        choices: 1,
        kinds: ["vision", "prefill"],
      });
      load.tick(nowMs);
    }
    assert.ok(Math.abs(load.rates("decode")[7]! - 200) < 1, `${load.rates("decode")[7]}`);
    assert.ok(Math.abs(load.rates("vision")[0]! - 1000 / stepMs) < 1);
    assert.equal(load.rates("prefill")[0], 0);
    assert.equal(load.total()[1], load.rates("prefill")[1]);
  }
});

Deno.test("ExpertLoad halves within the half-life without tokens, and keeps the shares", () => {
  const load = new ExpertLoad(grid, { halfLifeMs: 500 });
  load.tick(0);
  load.add({ layer: 0, expertIndex: Int32Array.of(0, 0, 0, 1), choices: 1, kinds: "decode" });
  load.tick(100);
  const before = [...load.total()];
  load.tick(600);
  load.tick(600);
  load.total().forEach((rate, slot) => assert.ok(Math.abs(rate - before[slot]! / 2) < 1e-9));
});

Deno.test("addLoads() sums by slot", () => {
  const sum = addLoads([Float64Array.of(1, 2), Float64Array.of(3, 4)], 2);
  assert.deepEqual([...sum], [4, 6]);
});

Deno.test("activationEntropy() is ln(n) for even use and 0 for one expert", () => {
  assert.ok(Math.abs(activationEntropy([5, 5, 5, 5]) - Math.log(4)) < 1e-12);
  assert.equal(activationEntropy([0, 9, 0]), 0);
  assert.equal(activationEntropy([0, 0]), 0);
  assert.ok(Math.abs(activationEntropy([3, 1]) - 0.5623351446188083) < 1e-12);
  const rows = layerEntropies(grid, Float64Array.of(1, 1, 1, 1, 0, 0, 2, 0));
  assert.deepEqual(rows.map(({ layer, relative }) => [layer, relative]), [[0, 1], [1, 0]]);
});

Deno.test("maxOverMean() is 1 for equal loads and the count for one loaded node", () => {
  assert.equal(maxOverMean([2, 2, 2]), 1);
  assert.equal(maxOverMean([6, 0, 0]), 3);
  assert.equal(maxOverMean([0, 0]), 1);
});
