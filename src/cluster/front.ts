/**
 * The front's side of a cluster: dials the shards until they answer, keeps their leases while their
 * connections live, drives the coordinator, and gives running calls their routes. The decisions are
 * those of the cores that it composes.
 */
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { decodeReport, encodeAssignment } from "./assignment_text.ts";
import { type ClusterBounds, defaultClusterBounds } from "./bounds.ts";
import { CallChannel } from "./call_channel.ts";
import type { CallContext } from "./calls.ts";
import type { ClusterControl } from "./cluster_control.ts";
import { type ClusterStatus, clusterStatus } from "./cluster_status.ts";
import type { ClusterTelemetry } from "./cluster_telemetry.ts";
import type { Connection } from "./connection.ts";
import type { ControlMessage } from "./control_frames.ts";
import { Coordinator } from "./coordinator.ts";
import { coverageProblem } from "./coverage.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type ExpertMap, expertMap } from "./expert_map.ts";
import type { FallbackExperts } from "./fallback_experts.ts";
import { HedgeBudget } from "./hedge_budget.ts";
import { InProcessMembership } from "./in_process_membership.ts";
import { ExpertLoad } from "./load.ts";
import { MemberTable } from "./member_table.ts";
import { decodeMember } from "./member_text.ts";
import { type Member, plannerOf } from "./membership.ts";
import { NodeHealth } from "./node_health.ts";
import type { NodeId } from "./placement.ts";
import type { PlanPolicy } from "./planner.ts";
import { ProtocolError } from "./protocol_error.ts";
import type { CallSite, RunningLayerCall } from "./remote_experts.ts";
import { RouteTable } from "./replica_choice.ts";
import type { RowEncodingName } from "./row_encoding.ts";
import type { Transport } from "./transport.ts";

export interface ClusterFrontOptions {
  readonly id: NodeId;
  readonly grid: ExpertGrid;
  /** Where the shards listen. */
  readonly addresses: readonly string[];
  readonly transport: Transport;
  readonly clock: Clock;
  readonly policy: PlanPolicy;
  readonly encoding: RowEncodingName;
  readonly fallback?: FallbackExperts | undefined;
  readonly telemetry: ClusterTelemetry;
  readonly bounds?: ClusterBounds;
  /** For the log: a shard came, went, or could not be used. */
  readonly noticed?: (message: string, facts: Readonly<Record<string, unknown>>) => void;
}

/** A shard that answered. */
interface Peer {
  readonly connection: Connection;
  readonly address: string;
  channel: CallChannel | undefined;
  member: Member | undefined;
  fence: number;
}

export class ClusterFront implements CallSite, ClusterControl {
  readonly clock: Clock;
  readonly context: CallContext;
  readonly encoding: RowEncodingName;
  readonly running = new Set<RunningLayerCall>();
  readonly fallback: FallbackExperts | undefined;
  readonly telemetry: ClusterTelemetry;
  readonly #options: ClusterFrontOptions;
  readonly #bounds: ClusterBounds;
  readonly #table: MemberTable;
  readonly #membership: InProcessMembership;
  readonly #coordinator: Coordinator;
  readonly #health: NodeHealth;
  readonly #load: ExpertLoad;
  readonly #peers = new Map<NodeId, Peer>();
  readonly #connections = new Set<Connection>();
  /** Why nobody answers at an address. */
  readonly #silent = new Map<string, string>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #tickTimer: ReturnType<typeof setInterval>;
  #routes: RouteTable | undefined;
  #attempts = 0;
  #isClosed = false;

  constructor(options: ClusterFrontOptions) {
    const { id, grid, clock, policy, fallback, bounds = defaultClusterBounds } = options;
    this.#options = options;
    this.#bounds = bounds;
    this.clock = clock;
    this.encoding = options.encoding;
    this.fallback = fallback;
    this.telemetry = options.telemetry;
    // Shards follow the highest fence: those of an earlier front must stay behind.
    const incarnation = Math.floor(clock.epochMs());
    this.#table = new MemberTable({ ttlMs: bounds.leaseTtlMs, firstRevision: incarnation });
    const renewMs = bounds.leaseRenewMs;
    this.#membership = new InProcessMembership({ table: this.#table, clock, renewMs });
    this.#membership.join({ id, incarnation, role: "front", address: "", node: undefined });
    this.#membership.watch(() => this.#route());
    const expectedNodes = options.addresses.length;
    this.#coordinator = new Coordinator({ id, grid, policy, bounds, expectedNodes });
    this.#health = new NodeHealth(bounds);
    this.#load = new ExpertLoad(grid, { halfLifeMs: limits.expertLoadHalfLifeMs });
    this.context = {
      health: this.#health,
      hedges: new HedgeBudget({ share: bounds.hedgedRowsShare, savedMax: bounds.hedgedRowsSaved }),
      bounds,
      routes: () => this.#routes,
      localNode: undefined,
      fallback: fallback !== undefined,
      spreadRows: limits.spreadRowsMin,
      nextAttempt: () => ++this.#attempts,
    };
    for (const address of options.addresses) this.#dial(address, REDIAL_MS);
    this.#tickTimer = setInterval(() => this.#tick(), limits.frontTickMs);
  }

  channel(node: NodeId): CallChannel | undefined {
    return this.#peers.get(node)?.channel;
  }

  routed(layer: number, expertIndex: Int32Array, choices: number): void {
    const kinds = expertIndex.length > choices ? "prefill" : "decode";
    this.#load.add({ layer, expertIndex, choices, kinds });
  }

  /** Why new requests cannot be served; undefined when they can. */
  problem(): OperatingError | undefined {
    return coverageProblem(this.context);
  }

  status(): ClusterStatus {
    const { id, grid, policy } = this.#options;
    return clusterStatus({
      front: id,
      grid,
      view: this.#membership.view,
      replicas: policy.replicas,
      coordinator: this.#coordinator,
      health: this.#health,
      load: this.#load,
      telemetry: this.telemetry,
      problem: this.problem()?.message,
      silent: [...this.#silent].map(([address, problem]) => ({ address, problem })),
      connection: (node) => this.#peers.get(node)?.connection,
    });
  }

  experts(layer?: number): ExpertMap {
    const { grid } = this.#options;
    if (layer !== undefined && !grid.layers.includes(layer)) {
      throw new OperatingError("not_found", `Layer ${layer} has no experts`, { field: "layer" });
    }
    const placement = this.#membership.view.plan?.placement;
    const layers = layer === undefined ? undefined : [layer];
    return expertMap({ grid, placement, load: this.#load.total(), layers });
  }

  drain(node: NodeId, draining: boolean): void {
    const sent = this.channel(node)?.send({ type: "drain", draining });
    if (sent === "sent") return;
    const known = [...this.#peers.keys()].sort().join(", ");
    const message = `No shard ${node} is connected, only: ${known || "none"}`;
    throw new OperatingError("not_found", message, { field: "node" });
  }

  rebalance(): void {
    if (!this.#coordinator.isPlanning) {
      const planner = plannerOf(this.#membership.view)?.member.id;
      const message = planner ? `${planner} plans for this cluster, ask it` : "Nobody plans yet";
      throw new OperatingError("conflict", message);
    }
    this.#coordinator.rebalance();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#tickTimer);
    for (const timer of this.#timers) clearTimeout(timer);
    for (const connection of [...this.#connections]) connection.close();
    await this.#membership[Symbol.asyncDispose]();
  }

  /** Connects, and again when that fails or ends, waiting longer each time. */
  #dial(address: string, waitMs: number): void {
    if (this.#isClosed) return;
    this.#options.transport.dial(address).then(
      (connection) => this.#connected(connection, address),
      (error: unknown) => {
        if (!(error instanceof OperatingError)) throw error;
        // Said once: it is tried again and again.
        if (this.#silent.get(address) !== error.message) {
          this.#options.noticed?.("no shard answers", { address, reason: error.message });
        }
        this.#silent.set(address, error.message);
        this.#redial(address, Math.min(2 * waitMs, REDIAL_MS_MAX));
      },
    );
  }

  #redial(address: string, waitMs: number): void {
    if (this.#isClosed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#dial(address, waitMs);
    }, waitMs);
    this.#timers.add(timer);
  }

  #connected(connection: Connection, address: string): void {
    if (this.#isClosed) return connection.close();
    this.#silent.delete(address);
    const id = connection.peer.nodeId;
    if (this.#peers.has(id)) {
      connection.close();
      this.#options.noticed?.("two shards have one name", { node: id, address });
      return this.#redial(address, REDIAL_MS_MAX);
    }
    this.#connections.add(connection);
    const peer: Peer = { connection, address, channel: undefined, member: undefined, fence: 0 };
    this.#peers.set(id, peer);
    this.#options.noticed?.("shard connected", { node: id, address });
    // Frames that came early are handed over before the constructor returns.
    peer.channel = new CallChannel(connection, {
      message: (message) => this.#take(peer, message),
      closed: (end) => {
        this.#options.noticed?.("shard lost", { node: id, address, reason: end.kind });
        this.#lose(peer);
        this.#redial(address, REDIAL_MS);
      },
    });
  }

  #lose(peer: Peer): void {
    const id = peer.connection.peer.nodeId;
    this.#connections.delete(peer.connection);
    this.#peers.delete(id);
    this.#health.lost(id);
    for (const call of [...this.running]) call.nodeLost(id);
    this.#table.leave(id, peer.fence);
    this.#membership.tick();
  }

  #take(peer: Peer, message: ControlMessage): void {
    const { grid } = this.#options;
    try {
      if (message.type === "member") this.#meet(peer, decodeMember(message.text, grid).member);
      else if (message.type === "report") this.#report(peer, message.text);
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
      throw new ProtocolError("body", error.message);
    }
  }

  #meet(peer: Peer, member: Member): void {
    const { nodeId } = peer.connection.peer;
    if (member.id !== nodeId || member.role !== "shard") {
      throw new ProtocolError("body", `${nodeId} says that it is ${member.role} ${member.id}`);
    }
    const nowMs = this.clock.nowMs();
    const isFirst = peer.member === undefined;
    peer.member = { ...member, address: peer.address };
    if (!isFirst && this.#table.renew(peer.member, { fence: peer.fence, nowMs })) return;
    peer.fence = this.#table.join(peer.member, nowMs) ?? 0;
    this.#health.connected(nodeId, { nowMs, speed: member.node?.speed ?? 1 });
    this.#membership.tick();
  }

  #report(peer: Peer, text: string): void {
    const report = decodeReport(text, this.#options.grid);
    const { member } = peer;
    if (report.node !== member?.id || report.incarnation !== member.incarnation) return;
    const nowMs = this.clock.nowMs();
    this.#health.heard(report.node, nowMs);
    this.#renew(peer, nowMs);
    const before = this.#coordinator.reports.get(report.node)?.held;
    this.#coordinator.report(report);
    const isSame = before?.size === report.held.size && before.isSubsetOf(report.held);
    if (!isSame) this.#route();
  }

  /** This process may itself have stood still: an expired lease begins anew. */
  #renew(peer: Peer, nowMs: number): void {
    const member = peer.member!;
    if (this.#table.renew(member, { fence: peer.fence, nowMs })) return;
    peer.fence = this.#table.join(member, nowMs) ?? 0;
  }

  #route(): void {
    const placement = this.#membership.view.plan?.placement;
    if (!placement) return;
    const { reports } = this.#coordinator;
    const isHeld = (node: NodeId, slot: number) => reports.get(node)?.held.has(slot) ?? false;
    this.#routes = new RouteTable({ grid: this.#options.grid, placement, isHeld });
  }

  #tick(): void {
    const nowMs = this.clock.nowMs();
    this.#load.tick(nowMs);
    const effects = this.#coordinator.tick({
      nowMs,
      view: this.#membership.view,
      lease: this.#membership.lease,
      load: this.#load.total(),
    });
    for (const effect of effects) {
      if (effect.type === "publish") this.#membership.publishPlan(effect.proposal);
      else {
        const text = encodeAssignment(effect.assignment);
        this.channel(effect.node)?.send({ type: "assign", text });
      }
    }
    for (const [id, { connection }] of this.#peers) {
      const speed = connection.peerLoad?.pairsPerSecond;
      if (speed !== undefined && speed > 0) this.#health.measured(id, speed);
    }
  }
}

/** Wait before a shard is dialled again: at first, and at most. */
const REDIAL_MS = 200;
const REDIAL_MS_MAX = 2000;
