/**
 * The front's side of a cluster: drives the coordinator with what shards and the membership say,
 * and gives running calls their routes. The decisions are those of the cores that it composes;
 * connections are those of shard_links.ts.
 */
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { encodeAssignment } from "./assignment_text.ts";
import { AssignedWork } from "./assigned_work.ts";
import { type ClusterBounds, defaultClusterBounds } from "./bounds.ts";
import type { CallChannel } from "./call_channel.ts";
import type { ReplyEncodingName } from "./call_frames.ts";
import type { CallContext } from "./calls.ts";
import type { ClusterControl } from "./cluster_control.ts";
import { type ClusterStatus, clusterStatus } from "./cluster_status.ts";
import type { ClusterTelemetry } from "./cluster_telemetry.ts";
import type { Connection } from "./connection.ts";
import { Coordinator } from "./coordinator.ts";
import { coverageProblem } from "./coverage.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type ExpertMap, expertMap } from "./expert_map.ts";
import type { FallbackExperts } from "./fallback_experts.ts";
import { HedgeBudget } from "./hedge_budget.ts";
import type { HeldReport } from "./holdings.ts";
import { addLoads, ExpertLoad } from "./load.ts";
import type { Member, Membership } from "./membership.ts";
import { NodeHealth } from "./node_health.ts";
import type { NodeId } from "./placement.ts";
import type { PlanPolicy } from "./planner.ts";
import { RouteTable } from "./replica_choice.ts";
import type { RowEncodingName } from "./row_encoding.ts";
import type { CallSite } from "./running_call.ts";
import { RunningCalls } from "./running_calls.ts";
import { ShardLinks } from "./shard_links.ts";
import type { ShardRegistry } from "./shard_registry.ts";
import type { Transport } from "./transport.ts";

export interface ClusterFrontOptions {
  readonly id: NodeId;
  readonly grid: ExpertGrid;
  /** Where shards are found and leases kept; closed with the front. */
  readonly registry: ShardRegistry;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly policy: PlanPolicy;
  readonly encoding: RowEncodingName;
  /** By default float32. */
  readonly replyEncoding?: ReplyEncodingName | undefined;
  readonly fallback?: FallbackExperts | undefined;
  /** Name of this process's own node, which is in no plan; it comes by `accept`. */
  readonly localNode?: NodeId | undefined;
  readonly telemetry: ClusterTelemetry;
  readonly bounds?: ClusterBounds;
  /** For the log: a shard came, went, or could not be used. */
  readonly noticed?: (message: string, facts: Readonly<Record<string, unknown>>) => void;
}

export class ClusterFront implements CallSite, ClusterControl {
  readonly clock: Clock;
  readonly context: CallContext;
  readonly encoding: RowEncodingName;
  readonly replyEncoding: ReplyEncodingName;
  readonly running: RunningCalls;
  readonly fallback: FallbackExperts | undefined;
  readonly telemetry: ClusterTelemetry;
  readonly #options: ClusterFrontOptions;
  readonly #registry: ShardRegistry;
  readonly #membership: Membership;
  readonly #links: ShardLinks;
  readonly #coordinator: Coordinator;
  readonly #health: NodeHealth;
  readonly #load: ExpertLoad;
  readonly #tickTimer: ReturnType<typeof setInterval>;
  #routes: RouteTable | undefined;
  /** What this process's own node holds. */
  #localHeld: ReadonlySet<number> = new Set();
  #attempts = 0;
  #loadSharedMs = -Infinity;
  /** Rebalances asked of each front's lease. */
  #wishes: ReadonlyMap<string, number> = new Map();

  constructor(options: ClusterFrontOptions) {
    const { id, grid, clock, policy, fallback, bounds = defaultClusterBounds } = options;
    this.#options = options;
    this.clock = clock;
    this.running = new RunningCalls(clock);
    this.encoding = options.encoding;
    this.replyEncoding = options.replyEncoding ?? "f32";
    this.fallback = fallback;
    this.telemetry = options.telemetry;
    this.#registry = options.registry;
    this.#membership = options.registry.membership;
    const { expectedNodes } = options.registry;
    this.#coordinator = new Coordinator({ id, grid, policy, bounds, expectedNodes });
    this.#health = new NodeHealth(bounds);
    this.#load = new ExpertLoad(grid, { halfLifeMs: limits.expertLoadHalfLifeMs });
    this.context = {
      health: this.#health,
      hedges: new HedgeBudget({ share: bounds.hedgedRowsShare, savedMax: bounds.hedgedRowsSaved }),
      work: new AssignedWork({ halfLifeMs: limits.expertLoadHalfLifeMs }),
      bounds,
      routes: () => this.#routes,
      localNode: options.localNode,
      fallback: fallback !== undefined,
      spreadRows: limits.spreadRowsMin,
      nextAttempt: () => ++this.#attempts,
    };
    const { transport, noticed } = options;
    this.#links = new ShardLinks({
      ...{ grid, transport, noticed },
      met: (member, isFirst) => this.#meet(member, isFirst),
      reported: (report) => this.#report(report),
      lost: (node) => this.#lose(node),
    });
    this.#membership.watch(() => this.#follow());
    this.#follow();
    this.#tickTimer = setInterval(() => this.#tick(), limits.frontTickMs);
  }

  channel(node: NodeId): CallChannel | undefined {
    return this.#links.channel(node);
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
      fleetLoad: this.#fleetLoad(),
      frontLoads: this.#membership.loads,
      work: this.context.work,
      telemetry: this.telemetry,
      problem: this.problem()?.message,
      silent: this.#links.silent,
      connection: (node) => this.#links.connection(node),
    });
  }

  experts(layer?: number): ExpertMap {
    const { grid } = this.#options;
    if (layer !== undefined && !grid.layers.includes(layer)) {
      throw new OperatingError("not_found", `Layer ${layer} has no experts`, { field: "layer" });
    }
    const placement = this.#membership.view.plan?.placement;
    const layers = layer === undefined ? undefined : [layer];
    return expertMap({ grid, placement, load: this.#fleetLoad(), layers });
  }

  drain(node: NodeId, draining: boolean): void {
    const sent = this.channel(node)?.send({ type: "drain", draining });
    if (sent === "sent") return;
    const known = this.#links.nodes.toSorted().join(", ");
    const message = `No shard ${node} is connected, only: ${known || "none"}`;
    throw new OperatingError("not_found", message, { field: "node" });
  }

  rebalance(): void {
    if (this.#coordinator.isPlanning) return this.#coordinator.rebalance();
    const { view, lease } = this.#membership;
    const front = view.members.get(this.#options.id)?.member;
    if (!front || !lease.isHeld) {
      throw new OperatingError("conflict", "This front has no lease now: no planner would hear it");
    }
    this.#membership.update({ ...front, rebalances: (front.rebalances ?? 0) + 1 });
  }

  /** Takes a shard that dialled this process. */
  accept(connection: Connection): void {
    this.#links.accept(connection);
  }

  async close(): Promise<void> {
    clearInterval(this.#tickTimer);
    this.#links.close();
    this.running.close();
    await this.#registry[Symbol.asyncDispose]();
  }

  /** The members or the plan changed. */
  #follow(): void {
    this.#links.follow(this.#registry.addresses);
    this.#route();
    this.#hearWishes();
  }

  /** An operator asked another front for a new plan. */
  #hearWishes(): void {
    const before = this.#wishes;
    const wishes = new Map<NodeId, number>();
    for (const { member, fence } of this.#membership.view.members.values()) {
      if (member.rebalances) wishes.set(`${member.id} ${fence}`, member.rebalances);
    }
    this.#wishes = wishes;
    const isAsked = [...wishes].some(([lease, count]) => count > (before.get(lease) ?? 0));
    if (isAsked && this.#coordinator.isPlanning) this.#coordinator.rebalance();
  }

  #lose(node: NodeId): void {
    this.#health.lost(node);
    this.running.nodeLost(node);
    if (node !== this.context.localNode) this.#registry.lost(node);
  }

  #meet(member: Member, isFirst: boolean): void {
    if (member.id !== this.context.localNode) this.#registry.met(member);
    if (!isFirst) return;
    const [nowMs, speed] = [this.clock.nowMs(), member.node?.speed ?? 1];
    this.#health.connected(member.id, { nowMs, speed });
  }

  #report(report: HeldReport): void {
    const { node, held } = report;
    this.#health.heard(node, this.clock.nowMs());
    const isLocal = node === this.context.localNode;
    const before = isLocal ? this.#localHeld : this.#coordinator.reports.get(node)?.held;
    if (isLocal) this.#localHeld = held;
    else {
      this.#registry.heard(node);
      this.#coordinator.report(report);
    }
    const isSame = before === held || (before?.size === held.size && before.isSubsetOf(held));
    if (!isSame) this.#route();
  }

  #route(): void {
    const { grid, localNode } = this.#options;
    const published = this.#membership.view.plan?.placement;
    if (!published && localNode === undefined) return;
    const placement = published ??
      { epoch: 0, owners: Array.from({ length: grid.size }, () => []) };
    const { reports } = this.#coordinator;
    const isHeld = (node: NodeId, slot: number) => reports.get(node)?.held.has(slot) ?? false;
    const local = localNode === undefined ? undefined : { node: localNode, held: this.#localHeld };
    this.context.work.follow(placement.epoch);
    this.#routes = new RouteTable({ grid, placement, isHeld, local });
  }

  /** Tokens per second by slot of all fronts: what the shards have to bear. */
  #fleetLoad(): Float64Array {
    const { loads } = this.#membership;
    return addLoads([this.#load.total(), ...loads.values()], this.#options.grid.size);
  }

  #tick(): void {
    const nowMs = this.clock.nowMs();
    this.#load.tick(nowMs);
    this.context.work.tick(nowMs);
    if (nowMs - this.#loadSharedMs >= limits.loadShareMs) {
      this.#loadSharedMs = nowMs;
      this.#membership.shareLoad(this.#load.total());
    }
    const effects = this.#coordinator.tick({
      nowMs,
      view: this.#membership.view,
      lease: this.#membership.lease,
      load: this.#fleetLoad(),
    });
    for (const effect of effects) {
      if (effect.type === "publish") this.#membership.publishPlan(effect.proposal);
      else {
        const text = encodeAssignment(effect.assignment);
        this.channel(effect.node)?.send({ type: "assign", text });
      }
    }
    for (const node of this.#links.nodes) {
      const speed = this.#links.connection(node)?.peerLoad?.pairsPerSecond;
      if (speed !== undefined && speed > 0) this.#health.measured(node, speed);
    }
  }
}
