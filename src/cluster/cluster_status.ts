/**
 * The state of a cluster as one plain value, for `cluster status`, the cluster page and metrics.
 * Computes figures from what the cores know; owns no state.
 */
import type { Coordinator } from "./coordinator.ts";
import { layerEntropies, maxOverMean } from "./entropy.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type ExpertLoad, tokenKinds } from "./load.ts";
import { type MembershipView, plannerOf } from "./membership.ts";
import type { CircuitState, NodeHealth } from "./node_health.ts";
import { capacityOf, type NodeId, uncoveredSlots } from "./placement.ts";

export interface NodeStatus {
  readonly id: NodeId;
  readonly address: string;
  readonly draining: boolean;
  readonly connected: boolean;
  readonly circuit: CircuitState;
  /** Experts of the plan, experts loaded, experts that fit. */
  readonly planned: number;
  readonly held: number;
  readonly capacity: number;
  /** (token, expert) rows per second: measured ability, and what the plan sends here. */
  readonly speed: number;
  readonly load: number;
  readonly waitingRows: number;
  /** Why it cannot serve, or could not load. */
  readonly problem: string | undefined;
}

export interface LayerStatus {
  readonly layer: number;
  /** Entropy of expert activation relative to even use, 0 to 1. */
  readonly entropy: number;
  /** Largest over mean of the nodes' time for this layer. */
  readonly balance: number;
}

export interface ClusterStatus {
  readonly planner: NodeId | undefined;
  readonly epoch: number;
  readonly phase: string;
  readonly plansGivenUp: number;
  /** Experts without a live owner; experts with only one. */
  readonly uncovered: number;
  readonly single: number;
  readonly balance: number;
  readonly entropy: number;
  readonly tokensPerSecond: Readonly<Record<typeof tokenKinds[number], number>>;
  readonly nodes: readonly NodeStatus[];
  readonly layers: readonly LayerStatus[];
}

export function clusterStatus(args: {
  grid: ExpertGrid;
  view: MembershipView;
  coordinator: Coordinator;
  health: NodeHealth;
  load: ExpertLoad;
}): ClusterStatus {
  const { grid, view, coordinator, load } = args;
  const placement = view.plan?.placement;
  const total = load.total();
  const busy = busyByLayer(args, total);
  const entropies = layerEntropies(grid, total);
  const layers = entropies.map(({ layer, relative }, row) => ({
    layer,
    entropy: relative,
    balance: maxOverMean([...busy[row]!.values()]),
  }));
  const isLive = (id: NodeId) => view.members.has(id);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    planner: plannerOf(view)?.member.id,
    epoch: placement?.epoch ?? 0,
    phase: coordinator.phase.name,
    plansGivenUp: coordinator.givenUp,
    uncovered: placement ? uncoveredSlots(placement, isLive).length : grid.size,
    single: placement?.owners.filter((owners) => owners.filter(isLive).length === 1).length ?? 0,
    balance: mean(layers.map((layer) => layer.balance)),
    entropy: mean(layers.map((layer) => layer.entropy)),
    tokensPerSecond: {
      prefill: sum(load.rates("prefill")),
      decode: sum(load.rates("decode")),
      vision: sum(load.rates("vision")),
    },
    nodes: nodeStatuses(args, total),
    layers,
  };
}

function sum(values: Float64Array): number {
  return values.reduce((a, b) => a + b, 0);
}

/** Time per second that each live node works for each layer, if replicas share alike. */
function busyByLayer(
  { grid, view }: { grid: ExpertGrid; view: MembershipView },
  load: Float64Array,
): Map<NodeId, number>[] {
  const speeds = new Map<NodeId, number>();
  for (const { member } of view.members.values()) {
    if (member.node) speeds.set(member.id, member.node.speed);
  }
  return grid.layers.map((layer) => {
    const busy = new Map([...speeds.keys()].map((id) => [id, 0]));
    const first = grid.firstSlot(layer);
    for (let slot = first; slot < first + grid.experts; slot++) {
      const owners = (view.plan?.placement.owners[slot] ?? []).filter((id) => speeds.has(id));
      for (const id of owners) {
        busy.set(id, busy.get(id)! + load[slot]! / owners.length / speeds.get(id)!);
      }
    }
    return busy;
  });
}

function nodeStatuses(
  args: {
    view: MembershipView;
    coordinator: Coordinator;
    health: NodeHealth;
  },
  load: Float64Array,
): NodeStatus[] {
  const { view, coordinator, health } = args;
  const owned = new Map<NodeId, { slots: number; load: number }>();
  view.plan?.placement.owners.forEach((owners, slot) => {
    for (const id of owners) {
      const entry = owned.get(id) ?? { slots: 0, load: 0 };
      owned.set(id, {
        slots: entry.slots + 1,
        load: entry.load + load[slot]! / owners.length,
      });
    }
  });
  const nodes = [...view.members.values()].flatMap(({ member }) => {
    const { node, id, address } = member;
    if (!node) return [];
    const report = coordinator.reports.get(id);
    return [{
      id,
      address,
      draining: node.draining,
      connected: health.isConnected(id),
      circuit: health.circuit(id),
      planned: owned.get(id)?.slots ?? 0,
      held: report?.held.size ?? 0,
      capacity: capacityOf(node),
      speed: node.speed,
      load: owned.get(id)?.load ?? 0,
      waitingRows: health.waitingRows(id),
      problem: coordinator.lastPlan?.refused.get(id) ?? report?.failure,
    }];
  });
  return nodes.sort((a, b) => a.id < b.id ? -1 : 1);
}
