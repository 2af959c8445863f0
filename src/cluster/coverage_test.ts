import assert from "node:assert/strict";
import { defaultClusterBounds } from "./bounds.ts";
import { coverageProblem } from "./coverage.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { NodeHealth } from "./node_health.ts";
import { RouteTable } from "./replica_choice.ts";

const grid = new ExpertGrid({ layers: [3], experts: 3 });

Deno.test("coverageProblem() names an expert without a connected owner, and nothing else", () => {
  const health = new NodeHealth(defaultClusterBounds);
  const placement = { epoch: 1, owners: [["a"], ["a", "b"], ["me"]] };
  const table = new RouteTable({ grid, placement });
  const context = { health, routes: () => table, localNode: "me", fallback: false };
  assert.match(coverageProblem(context)!.message, /expert 0 of layer 3 and 1 more$/);
  health.connected("b", { nowMs: 0, speed: 1 });
  assert.match(coverageProblem(context)!.message, /expert 0 of layer 3$/);
  assert.equal(coverageProblem(context)!.code, "unavailable");
  health.connected("a", { nowMs: 0, speed: 1 });
  assert.equal(coverageProblem(context), undefined);
  health.lost("a");
  assert.equal(coverageProblem({ ...context, fallback: true }), undefined);
  const early = { ...context, routes: () => undefined };
  assert.equal(coverageProblem(early)!.message, "The experts are not placed yet");
});
