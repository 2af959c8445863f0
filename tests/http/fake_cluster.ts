/** A cluster that only notes what is asked of it: three shards in every state that a page shows. */
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import type { ClusterStatus, NodeStatus } from "@/cluster/cluster_status.ts";
import type { ExpertMap } from "@/cluster/expert_map.ts";
import { OperatingError } from "@/errors.ts";

const LAYERS = 6;
const EXPERTS = 32;
const MIB = 1024 * 1024;

function node(id: string, rest: Partial<NodeStatus> = {}): NodeStatus {
  return {
    id,
    address: `${id}.example:7070`,
    numericClass: "wasm-relaxed/q4",
    draining: false,
    connected: true,
    circuit: "closed",
    planned: 128,
    held: 128,
    capacity: 160,
    memoryBytes: 480 * MIB,
    heldBytes: 384 * MIB,
    speed: 5200,
    load: 310.5,
    busy: 0.42,
    waitingRows: 8,
    heartbeatMs: 0.21,
    roundTrips: { p50Ms: 0.4, p95Ms: 0.9, p99Ms: 2.2 },
    calls: { first: 9000, retry: 3, hedge: 12, rows: 72_000, results: 9008, refusals: 2, lost: 1 },
    problem: undefined,
    ...rest,
  };
}

const noCalls = { first: 0, retry: 0, hedge: 0, rows: 0, results: 0, refusals: 0, lost: 0 };

export class FakeCluster implements ClusterControl {
  readonly orders: string[] = [];
  /** Shown in place of the figures below. */
  change: Partial<ClusterStatus> = {};

  status(): ClusterStatus {
    return {
      front: "front-1",
      planner: "front-1",
      epoch: 7,
      phase: "idle",
      rebalancing: false,
      plans: { published: 7, copies: 400, drops: 208, givenUp: 1 },
      experts: LAYERS * EXPERTS,
      replicas: 1,
      underReplicated: 0,
      uncovered: 0,
      single: 150,
      balance: 1.07,
      plannedBalance: 1.04,
      entropy: 0.91,
      tokensPerSecond: { prefill: 1000, decode: 480, vision: 0 },
      calls: {
        ...{ layers: 12_000, failures: 0, calls: 27_015, retries: 3 },
        ...{ hedgedRows: 96, fallbacks: 0 },
      },
      problem: undefined,
      nodes: [
        node("anna"),
        node("bert", { circuit: "open", waitingRows: 64, heartbeatMs: 21.5, busy: 1 }),
        node("carl", {
          ...{ draining: true, planned: 0, held: 20, load: 0, calls: noCalls },
          ...{ roundTrips: undefined, heartbeatMs: undefined, busy: undefined },
          problem: "Cannot load expert 3 of layer 1: bad sector",
        }),
      ],
      fronts: [
        { id: "front-1", rowsPerSecond: 1480 },
        { id: "front-2", rowsPerSecond: 22 },
      ],
      silent: [{ address: "dora.example:7070", problem: "Cannot connect to dora.example:7070" }],
      layers: Array.from({ length: LAYERS }, (_, layer) => ({
        layer,
        entropy: 0.95 - layer * 0.02,
        balance: 1.02 + layer * 0.02,
        plannedBalance: 1.01 + layer * 0.02,
      })),
      ...this.change,
    };
  }

  experts(layer?: number): ExpertMap {
    if (layer !== undefined && layer >= LAYERS) {
      throw new OperatingError("not_found", `Layer ${layer} has no experts`, { field: "layer" });
    }
    const layers = Array.from({ length: LAYERS }, (_, index) => ({
      layer: index,
      owners: Array.from({ length: EXPERTS }, (_, e) => e % 5 === 0 ? [0, 1] : [(e + index) % 2]),
      load: Array.from({ length: EXPERTS }, (_, expert) => 40 / (1 + (expert * 7 + index) % 32)),
    }));
    const wanted = layers.filter((entry) => layer === undefined || entry.layer === layer);
    return { epoch: 7, nodes: ["anna", "bert"], layers: wanted };
  }

  drain(id: string, draining: boolean): void {
    if (!this.status().nodes.some((known) => known.id === id)) {
      throw new OperatingError("not_found", `No shard ${id} is connected, only: anna, bert, carl`, {
        field: "node",
      });
    }
    this.orders.push(`${draining ? "drain" : "keep"} ${id}`);
  }

  rebalance(): void {
    if (this.status().planner !== "front-1") {
      throw new OperatingError("conflict", `${this.status().planner} plans for this cluster`);
    }
    this.orders.push("rebalance");
  }
}
