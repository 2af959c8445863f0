import assert from "node:assert/strict";
import { ExpertGrid } from "./expert_grid.ts";
import { estimateWire } from "./wire_estimate.ts";

const grid = new ExpertGrid({ layers: Array.from({ length: 48 }, (_, i) => i), experts: 128 });

function estimate(nodes: number, copies: number, rest = {}) {
  const owners = Array.from({ length: grid.size }, (_, slot) => {
    // Equal parts of every layer.
    const first = slot % nodes;
    return Array.from({ length: copies }, (_, i) => `n${(first + i) % nodes}`).sort();
  });
  return estimateWire({
    ...{ grid, owners, choices: 8, width: 2048, encoding: "int8" },
    ...{ roundTripMs: 0.3, bitsPerSecond: 1e9 },
    ...rest,
  });
}

Deno.test("estimateWire() asks as many nodes as drawing eight of 128 experts leads to", () => {
  // N(1 - C(128 - 128/N, 8) / C(128, 8)), e.g. 3.6 of 4 and 5.3 of 8.
  for (const [nodes, expected] of [[2, 2.0], [4, 3.62], [8, 5.32]] as const) {
    assert.ok(Math.abs(estimate(nodes, 1).nodesAsked - expected) < 0.1, `${nodes} nodes`);
  }
  assert.ok(estimate(8, 2).nodesAsked < 4.5, "a cover of two copies each needs fewer");
});

Deno.test("estimateWire() counts frames both ways, and their time on the link", () => {
  const { nodesAsked, sentBytes, receivedBytes, waitMs, transferMs } = estimate(4, 1);
  // Replies: eight rows of float32 per layer. Requests: one row of codes per node.
  assert.ok(Math.abs(receivedBytes - 48 * (8 * 8192 + nodesAsked * 56)) < 1);
  assert.ok(Math.abs(sentBytes / (48 * nodesAsked * 2304) - 1) < 0.05);
  assert.ok(Math.abs(waitMs - 14.4) < 1e-9);
  assert.ok(Math.abs(transferMs - (sentBytes + receivedBytes) * 8 / 1e6) < 1e-9);
});
