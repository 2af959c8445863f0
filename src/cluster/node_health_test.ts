import assert from "node:assert/strict";
import { defaultClusterBounds } from "./bounds.ts";
import { HedgeBudget } from "./hedge_budget.ts";
import { NodeHealth } from "./node_health.ts";

const bounds = { ...defaultClusterBounds, latencySamplesMin: 4, latencySamples: 20 };

function connected(): NodeHealth {
  const health = new NodeHealth(bounds);
  health.connected("a", { nowMs: 0, speed: 100 });
  return health;
}

Deno.test("NodeHealth calls a node good while it is connected and heard", () => {
  const health = connected();
  assert.ok(health.isGood("a", bounds.nodeSilenceMs));
  assert.ok(!health.isGood("a", bounds.nodeSilenceMs + 1), "silent");
  health.heard("a", 5000);
  assert.ok(health.isGood("a", 5000));
  health.lost("a");
  assert.ok(!health.isGood("a", 5000) && !health.isConnected("a"));
  assert.ok(!health.isGood("unknown", 0));
});

Deno.test("NodeHealth opens the circuit after failures in a row, probes once, waits longer", () => {
  const health = connected();
  const { circuitFailures, circuitOpenMs } = bounds;
  for (let i = 1; i < circuitFailures; i++) health.failed("a", 0);
  health.answered("a", { nowMs: 0, latencyMs: 1, rows: 1 });
  for (let i = 0; i < circuitFailures; i++) health.failed("a", 10);
  assert.equal(health.circuit("a"), "open");
  assert.ok(!health.isGood("a", 9 + circuitOpenMs));
  const probeMs = 10 + circuitOpenMs;
  assert.ok(health.isGood("a", probeMs));
  health.sent("a", 1);
  assert.ok(!health.isGood("a", probeMs), "one probe at a time");
  health.released("a");
  assert.ok(health.isGood("a", probeMs), "a cancelled probe shows nothing");
  health.sent("a", 1);
  health.failed("a", probeMs);
  assert.ok(!health.isGood("a", probeMs + circuitOpenMs));
  health.heard("a", probeMs + 2 * circuitOpenMs);
  assert.ok(health.isGood("a", probeMs + 2 * circuitOpenMs));
  health.sent("a", 1);
  health.answered("a", { nowMs: 600, latencyMs: 1, rows: 1 });
  assert.equal(health.circuit("a"), "closed");
});

Deno.test("NodeHealth opens the circuit of a node that is stuck at its first silence", () => {
  const health = connected();
  health.heard("a", 50);
  health.silent("a", { sentMs: 40, nowMs: 440 });
  assert.equal(health.circuit("a"), "closed", "it was heard meanwhile: only slow");
  health.silent("a", { sentMs: 60, nowMs: 460 });
  assert.equal(health.circuit("a"), "open");
});

Deno.test("NodeHealth gives the 95th percentile of recent calls of that size", () => {
  const health = connected();
  const answer = (latencyMs: number, rows: number) =>
    health.answered("a", { nowMs: 0, latencyMs, rows });
  for (let i = 1; i <= 3; i++) answer(i, 8);
  assert.equal(health.p95Ms("a", 8), undefined, "too few");
  for (let i = 4; i <= 100; i++) answer(i, 8);
  assert.equal(health.p95Ms("a", 7), 99, "of the last 20: 81 to 100");
  assert.equal(health.p95Ms("a", 9), undefined, "larger calls take longer");
});

Deno.test("NodeHealth knows the work that waits", () => {
  const health = connected();
  health.sent("a", 50);
  assert.equal(health.busySeconds("a"), 0.5);
  health.measured("a", 25);
  assert.equal(health.busySeconds("a"), 2);
  health.settled("a", 60);
  assert.equal(health.waitingRows("a"), 0);
});

Deno.test("HedgeBudget spends a share of the traffic and what was saved", () => {
  const budget = new HedgeBudget({ share: 0.1, savedMax: 10 });
  assert.ok(budget.spend(10));
  assert.ok(!budget.spend(1));
  budget.earn(20);
  assert.ok(!budget.spend(3) && budget.spend(2));
  budget.earn(1000);
  assert.equal(budget.saved, 10);
});
