import assert from "node:assert/strict";
import { planFit } from "./plan_fit.ts";

/** The 30B-A3B class at 4.5 bits: 48 layers of 128 experts, 16.3 GB. */
const layers = Array.from({ length: 48 }, (_, i) => i);
const expertBytes = 3 * 2048 * 768 * 4.5 / 8;
const model = { layers, experts: 128, layerBytes: layers.map(() => expertBytes) };

function boxes(count: number, gigabytes: number, speeds: number[] = []) {
  return Array.from({ length: count }, (_, i) => ({
    id: `box-${i}`,
    memoryBytes: gigabytes * 1e9,
    speed: speeds[i] ?? 1,
  }));
}

Deno.test("planFit() shares the 30B-A3B model among four boxes of 5 GB, once", () => {
  const fit = planFit({ ...model, nodes: boxes(4, 5), replicas: 1, spareCopies: 8 });
  assert.ok(fit.isCovered && fit.isReplicated);
  assert.deepEqual([fit.missingBytes, fit.replicasMax, fit.lossesSurvived], [0, 1, 0]);
  assert.ok(fit.balance < 1.05, `${fit.balance}`);
  for (const node of fit.nodes) {
    assert.ok(node.freeBytes >= 0 && Math.abs(node.loadShare - 0.25) < 0.02);
  }
});

Deno.test("planFit() says how much memory two copies lack, and what is lost without them", () => {
  const fit = planFit({ ...model, nodes: boxes(4, 5), replicas: 2, spareCopies: 0 });
  assert.ok(fit.isCovered && !fit.isReplicated);
  const needed = 2 * 48 * 128 * expertBytes;
  const usable = 4 * Math.floor(5e9 / expertBytes) * expertBytes;
  assert.equal(fit.missingBytes, needed - usable);
  const eight = planFit({ ...model, nodes: boxes(8, 5), replicas: 2, spareCopies: 0 });
  assert.ok(eight.isReplicated);
  assert.equal(eight.lossesSurvived, 1);
});

Deno.test("planFit() gives faster boxes more work", () => {
  const fit = planFit({ ...model, nodes: boxes(3, 20, [1, 1, 2]), replicas: 1, spareCopies: 0 });
  assert.ok(Math.abs(fit.nodes[2]!.loadShare - 0.5) < 0.02);
  assert.ok(fit.balance < 1.05);
});

Deno.test("planFit() says when a model fits nowhere", () => {
  const fit = planFit({ ...model, nodes: boxes(2, 4), replicas: 1, spareCopies: 0 });
  assert.ok(!fit.isCovered);
  assert.equal(fit.replicasMax, 0);
});

Deno.test("planFit() counts the bytes of each layer: wide outer layers do not widen the others", () => {
  const layerBytes = layers.map((layer) => layer % 47 === 0 ? 2 * expertBytes : expertBytes);
  const needed = 128 * layerBytes.reduce((sum, bytes) => sum + bytes, 0);
  // With a little room for the remainders of four boxes; at the widest expert it would be 24 % short.
  const nodes = boxes(4, 1.01 * needed / 4e9);
  const fit = planFit({ ...model, layerBytes, nodes, replicas: 1, spareCopies: 0 });
  assert.ok(fit.isCovered && fit.isReplicated);
  assert.equal(fit.nodes.reduce((sum, { bytes }) => sum + bytes, 0), needed);
  assert.ok(fit.nodes.every(({ freeBytes }) => freeBytes >= 0) && fit.balance < 1.05);
  const short = planFit({
    ...model,
    layerBytes,
    nodes: boxes(4, 3.9),
    replicas: 1,
    spareCopies: 0,
  });
  assert.ok(!short.isCovered && short.missingBytes > 0);
});
