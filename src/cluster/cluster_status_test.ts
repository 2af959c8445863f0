import assert from "node:assert/strict";
import { Metrics } from "@/telemetry/metrics.ts";
import { AssignedWork } from "./assigned_work.ts";
import { defaultClusterBounds } from "./bounds.ts";
import { clusterStatus } from "./cluster_status.ts";
import { ClusterTelemetry } from "./cluster_telemetry.ts";
import { Coordinator } from "./coordinator.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { addLoads, ExpertLoad } from "./load.ts";
import { MemberTable } from "./member_table.ts";
import type { Member } from "./membership.ts";
import { NodeHealth } from "./node_health.ts";
import { defaultPlanPolicy } from "./planner.ts";

const grid = new ExpertGrid({ layers: [0, 1], experts: 2 });
const identity = { weightHash: "w", numericClass: "c" };

function member(id: string, speed: number): Member {
  const node = { id, speed, memoryBytes: 40, expertBytes: 10, draining: false, ...identity };
  return { id, incarnation: 1, role: "shard", address: `${id}:1`, node };
}

Deno.test("clusterStatus() gives owners, balance, entropy and what is missing", () => {
  const table = new MemberTable({ ttlMs: 100 });
  table.join({ ...member("front", 1), role: "front", node: undefined }, 0);
  table.join(member("a", 100), 0);
  table.join(member("b", 100), 0);
  const owners = [["a"], ["b"], ["a", "b"], ["gone"]];
  const placement = { epoch: 6, owners };
  assert.ok(table.publish({ placement, planner: "front", fence: 1, expectedRevision: 0 }));
  const load = new ExpertLoad(grid, { halfLifeMs: 1000 });
  load.tick(0);
  const add = (layer: number, expertIndex: number[]) =>
    load.add({ layer, expertIndex: Int32Array.from(expertIndex), choices: 1, kinds: "decode" });
  add(0, [0, 0, 0, 1]);
  add(1, [0, 0]);
  load.tick(1000);
  // Another front asks for what this one does not.
  const other = Float64Array.of(0, 1, 0, 0);
  table.join({ ...member("other", 1), role: "front", node: undefined }, 0);
  const health = new NodeHealth(defaultClusterBounds);
  health.connected("a", { nowMs: 0, speed: 100 });
  const policy = { ...defaultPlanPolicy, identity };
  const coordinator = new Coordinator({ id: "front", grid, policy, bounds: defaultClusterBounds });
  const clock = { nowMs: () => 0, epochMs: () => 0 };
  const work = new AssignedWork({ halfLifeMs: 1000 });
  work.follow(6);
  work.add(0, "a", 3);
  work.add(0, "b", 1);
  const telemetry = new ClusterTelemetry({ clock, metrics: new Metrics() });
  telemetry.layer({ layer: 0, step: 0, rows: 3 }).sent("a", "hedge", 3);
  const status = clusterStatus({
    ...{ front: "front", grid, view: table.view, replicas: 2, coordinator, health, load },
    fleetLoad: addLoads([load.total(), other], 4),
    frontLoads: new Map([["other", other]]),
    ...{ work, telemetry, problem: undefined, silent: [] },
    connection: () => undefined,
  });
  assert.deepEqual([status.planner, status.epoch, status.phase], ["front", 6, "following"]);
  assert.deepEqual([status.uncovered, status.single, status.underReplicated], [1, 2, 3]);
  assert.deepEqual([status.nodes[0]!.calls.hedge, status.nodes[0]!.calls.rows], [1, 3]);
  assert.deepEqual(status.layers.map(({ balance }) => balance), [1.5, 1], "of this front's calls");
  assert.deepEqual(status.layers.map((layer) => layer.plannedBalance), [1, 1], "of all fronts");
  assert.ok(Math.abs(status.layers[0]!.entropy - 1) < 1e-9);
  const fronts = status.fronts.map(({ id, rowsPerSecond }) => [id, rowsPerSecond.toFixed(6)]);
  assert.deepEqual(fronts, [["front", "3.000000"], ["other", "1.000000"]]);
  assert.equal(status.layers[1]!.entropy, 0);
  assert.deepEqual(
    status.nodes.map(({ id, planned, connected, capacity }) => [id, planned, connected, capacity]),
    [["a", 2, true, 4], ["b", 2, false, 4]],
  );
  const { decode, prefill } = status.tokensPerSecond;
  assert.ok(decode > 0 && prefill === 0);
  assert.ok(Math.abs(status.nodes[0]!.load / decode - 4 / 6) < 1e-9);
});
