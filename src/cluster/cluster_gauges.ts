/** Copies a cluster's status into metrics, when they are rendered. Counts of calls are not here. */
import type { Metrics } from "@/telemetry/metrics.ts";
import type { ClusterStatus, NodeStatus } from "./cluster_status.ts";
import type { PlanCounts } from "./coordinator.ts";
import { type CircuitState, circuitStates } from "./node_health.ts";
import type { NodeId } from "./placement.ts";

export class ClusterGauges {
  readonly #metrics: Metrics;
  readonly #known = new Set<NodeId>();
  #counted: PlanCounts | undefined;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  update(status: ClusterStatus): void {
    const metrics = this.#metrics;
    metrics.set("flotilla_cluster_epoch", status.epoch);
    metrics.set("flotilla_cluster_uncovered_experts", status.uncovered);
    metrics.set("flotilla_cluster_single_experts", status.single);
    for (const { layer, balance, plannedBalance, entropy } of status.layers) {
      metrics.set("flotilla_cluster_balance_ratio", balance, { layer: `${layer}` });
      metrics.set("flotilla_cluster_planned_balance_ratio", plannedBalance, { layer: `${layer}` });
      metrics.set("flotilla_cluster_activation_entropy", entropy, { layer: `${layer}` });
    }
    this.#plans(status.plans);
    const here = new Set(status.nodes.map(({ id }) => id));
    for (const node of status.nodes) this.#node(node.id, node);
    // A node that left would else show its last figures for ever.
    for (const id of this.#known) if (!here.has(id)) this.#node(id, undefined);
  }

  #plans(plans: PlanCounts): void {
    const grown = (name: keyof PlanCounts) => plans[name] - (this.#counted?.[name] ?? 0);
    const metrics = this.#metrics;
    metrics.count("flotilla_cluster_plans_total", grown("published"), { outcome: "published" });
    metrics.count("flotilla_cluster_plans_total", grown("givenUp"), { outcome: "given_up" });
    metrics.count("flotilla_cluster_moves_total", grown("copies"), { kind: "copy" });
    metrics.count("flotilla_cluster_moves_total", grown("drops"), { kind: "drop" });
    this.#counted = { ...plans };
  }

  #node(id: NodeId, status: NodeStatus | undefined): void {
    const metrics = this.#metrics;
    this.#known.add(id);
    const node = { node: id };
    metrics.set("flotilla_cluster_node_connected", status?.connected ? 1 : 0, node);
    metrics.set("flotilla_cluster_node_draining", status?.draining ? 1 : 0, node);
    const current: CircuitState | undefined = status?.circuit;
    for (const state of circuitStates) {
      metrics.set("flotilla_cluster_circuit", state === current ? 1 : 0, { ...node, state });
    }
    for (const kind of ["planned", "held", "capacity"] as const) {
      metrics.set("flotilla_cluster_node_experts", status?.[kind] ?? 0, { ...node, kind });
    }
    metrics.set("flotilla_cluster_waiting_rows", status?.waitingRows ?? 0, node);
    const { heartbeatMs } = status ?? {};
    if (heartbeatMs === undefined) return;
    metrics.set("flotilla_cluster_heartbeat_seconds", heartbeatMs / 1000, node);
  }
}
