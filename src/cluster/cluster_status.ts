/**
 * The state of a cluster as one plain value, for `cluster status`, the cluster page and metrics.
 * Computes figures from what the cores know; owns no state.
 */
import type { AssignedWork } from "./assigned_work.ts";
import type { ClusterTelemetry, NodeCalls, RoundTrips } from "./cluster_telemetry.ts";
import type { CallTotals } from "./cluster_telemetry.ts";
import type { Connection } from "./connection.ts";
import type { Coordinator, PlanCounts } from "./coordinator.ts";
import { layerEntropies, maxOverMean } from "./entropy.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type ExpertLoad, tokenKinds } from "./load.ts";
import { type Membership, type MembershipView, plannerOf } from "./membership.ts";
import type { CircuitState, NodeHealth } from "./node_health.ts";
import { bytesOfSlots, capacityOf, type NodeId, slotsOf, uncoveredSlots } from "./placement.ts";
import { plannedLoad } from "./planned_load.ts";

export interface NodeStatus {
  readonly id: NodeId;
  readonly address: string;
  readonly numericClass: string;
  readonly draining: boolean;
  readonly connected: boolean;
  readonly circuit: CircuitState;
  /** Experts of the plan, experts loaded, experts that fit. */
  readonly planned: number;
  readonly held: number;
  readonly capacity: number;
  /** Memory for experts. */
  readonly memoryBytes: number;
  readonly heldBytes: number;
  /** (token, expert) rows per second: measured ability, and what the plan sends here. */
  readonly speed: number;
  readonly load: number;
  /** Share of the last heartbeat's time in which it computed, 0 to 1. */
  readonly busy: number | undefined;
  readonly waitingRows: number;
  /** Smoothed round trip of heartbeats. */
  readonly heartbeatMs: number | undefined;
  /** Round trips of its last calls, computing included. */
  readonly roundTrips: RoundTrips | undefined;
  readonly calls: NodeCalls;
  /** Why it cannot serve, or could not load. */
  readonly problem: string | undefined;
}

/** An address of `--cluster` at which no shard answers. */
export interface SilentAddress {
  readonly address: string;
  readonly problem: string;
}

/** A front, and the (token, expert) rows per second that it asks for. */
export interface FrontStatus {
  readonly id: NodeId;
  readonly rowsPerSecond: number;
}

export interface LayerStatus {
  readonly layer: number;
  /** Entropy of expert activation relative to even use, 0 to 1. */
  readonly entropy: number;
  /** Largest over mean of the work for this layer that calls gave to the nodes. */
  readonly balance: number;
  /** The same as the plan foresees it for the present load. */
  readonly plannedBalance: number;
}

export interface ClusterStatus {
  readonly front: NodeId;
  readonly planner: NodeId | undefined;
  readonly epoch: number;
  /** What the planner does; "following" when another front plans. */
  readonly phase: string;
  /** A rebalance was asked for and is not over. */
  readonly rebalancing: boolean;
  readonly plans: PlanCounts;
  readonly experts: number;
  /** Copies of every expert that are asked for, and experts with fewer. */
  readonly replicas: number;
  readonly underReplicated: number;
  /** Experts without a live owner; experts with only one. */
  readonly uncovered: number;
  readonly single: number;
  /** Means over layers. */
  readonly balance: number;
  readonly plannedBalance: number;
  readonly entropy: number;
  /** Of this front alone, as `balance` is; entropy, loads and the plan's balance are of all fronts. */
  readonly tokensPerSecond: Readonly<Record<typeof tokenKinds[number], number>>;
  readonly calls: CallTotals;
  /** Why new requests are refused. */
  readonly problem: string | undefined;
  readonly fronts: readonly FrontStatus[];
  readonly nodes: readonly NodeStatus[];
  readonly silent: readonly SilentAddress[];
  readonly layers: readonly LayerStatus[];
}

/** What the cores know. */
export interface StatusSources {
  readonly front: NodeId;
  readonly grid: ExpertGrid;
  readonly view: MembershipView;
  readonly replicas: number;
  readonly coordinator: Coordinator;
  readonly health: NodeHealth;
  /** Of this front, of all fronts, and of each other one. */
  readonly load: ExpertLoad;
  readonly fleetLoad: Float64Array;
  readonly frontLoads: Membership["loads"];
  readonly work: AssignedWork;
  readonly telemetry: ClusterTelemetry;
  readonly problem: string | undefined;
  readonly silent: readonly SilentAddress[];
  connection(node: NodeId): Pick<Connection, "roundTrip" | "peerLoad"> | undefined;
}

export function clusterStatus(sources: StatusSources): ClusterStatus {
  const { front, grid, view, replicas, coordinator, load, telemetry } = sources;
  const placement = view.plan?.placement;
  const total = sources.fleetLoad;
  const speeds = sharingNodes(view);
  const planned = plannedLoad({ grid, placement, load: total, speeds });
  const layers = layerEntropies(grid, total).map(({ layer, relative }, row) => ({
    layer,
    entropy: relative,
    balance: maxOverMean([...speeds.keys()].map((id) => sources.work.seconds(layer, id))),
    plannedBalance: maxOverMean([...planned.busy[row]!.values()]),
  }));
  const isLive = (id: NodeId) => view.members.has(id);
  const copies = placement?.owners.map((owners) => owners.filter(isLive).length);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    front,
    planner: plannerOf(view)?.member.id,
    epoch: placement?.epoch ?? 0,
    phase: coordinator.phase.name,
    rebalancing: coordinator.isRebalancing,
    plans: { ...coordinator.counts },
    experts: grid.size,
    replicas,
    underReplicated: copies?.filter((count) => count < replicas).length ?? grid.size,
    uncovered: placement ? uncoveredSlots(placement, isLive).length : grid.size,
    single: copies?.filter((count) => count === 1).length ?? 0,
    balance: mean(layers.map((layer) => layer.balance)),
    plannedBalance: mean(layers.map((layer) => layer.plannedBalance)),
    entropy: mean(layers.map((layer) => layer.entropy)),
    tokensPerSecond: {
      prefill: sum(load.rates("prefill")),
      decode: sum(load.rates("decode")),
      vision: sum(load.rates("vision")),
    },
    calls: { ...telemetry.totals },
    problem: sources.problem,
    fronts: frontStatuses(sources),
    nodes: nodeStatuses(sources, planned.rows),
    silent: sources.silent,
    layers,
  };
}

function sum(values: Float64Array): number {
  return values.reduce((a, b) => a + b, 0);
}

function frontStatuses({ front, view, load, frontLoads }: StatusSources): FrontStatus[] {
  const ids = [...view.members.values()]
    .flatMap(({ member }) => member.role === "front" ? [member.id] : []).sort();
  return ids.map((id) => {
    const rates = id === front ? load.total() : frontLoads.get(id);
    return { id, rowsPerSecond: rates ? sum(rates) : 0 };
  });
}

/** Speeds of live nodes; one that gives its experts away has no share in the balance. */
function sharingNodes(view: MembershipView): Map<NodeId, number> {
  const speeds = new Map<NodeId, number>();
  for (const { member } of view.members.values()) {
    if (member.node && !member.node.draining) speeds.set(member.id, member.node.speed);
  }
  return speeds;
}

function nodeStatuses(
  sources: StatusSources,
  plannedRows: ReadonlyMap<NodeId, number>,
): NodeStatus[] {
  const { view, coordinator, health, telemetry } = sources;
  const nodes = [...view.members.values()].flatMap(({ member }): NodeStatus[] => {
    const { node, id, address } = member;
    if (!node) return [];
    const report = coordinator.reports.get(id);
    const connection = sources.connection(id);
    return [{
      id,
      address,
      numericClass: node.numericClass,
      draining: node.draining,
      connected: health.isConnected(id),
      circuit: health.circuit(id),
      planned: slotsOf(view.plan?.placement, id).size,
      held: report?.held.size ?? 0,
      capacity: capacityOf(node),
      memoryBytes: node.memoryBytes,
      heldBytes: bytesOfSlots(node, sources.grid, report?.held ?? []),
      speed: node.speed,
      load: plannedRows.get(id) ?? 0,
      busy: connection?.peerLoad?.busy,
      waitingRows: health.waitingRows(id),
      heartbeatMs: connection?.roundTrip?.smoothedMs,
      roundTrips: telemetry.roundTripsOf(id),
      calls: { ...telemetry.callsOf(id) },
      problem: coordinator.lastPlan?.refused.get(id) ?? report?.failure,
    }];
  });
  return nodes.sort((a, b) => a.id < b.id ? -1 : 1);
}
