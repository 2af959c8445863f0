/**
 * The programs of a simulated cluster, around the real cores: the store, a shard, a front's lease.
 * What they do between the cores is as little as possible. The front is cluster_front.ts.
 */
import type { ClusterBounds } from "@/cluster/bounds.ts";
import type { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { RefusalReason } from "@/cluster/control_frames.ts";
import { type Assignment, type HeldReport, Holdings } from "@/cluster/holdings.ts";
import { LeaseKeeper } from "@/cluster/lease_keeper.ts";
import { MemberTable } from "@/cluster/member_table.ts";
import type { Member, MembershipView, PlanProposal } from "@/cluster/membership.ts";
import { bytesOfSlots, type ClusterNode } from "@/cluster/placement.ts";
import type { ClusterChecker } from "./cluster_checker.ts";
import { type ConnectionClosed, type Network, type Process, TICK_MS } from "./cluster_network.ts";
import { computeExperts, type MockCall, type PairValue } from "./mock_experts.ts";
import type { Random } from "./workload.ts";

export const STORE = "store";

/** Bugs that a simulation can carry, to show that the checkers see them. */
export type PlantedBug =
  | "epochs_unchecked"
  | "plans_overwritten"
  | "early_drop"
  | "late_parts_combined"
  | "hedges_unbounded"
  | "no_retries";

export interface World {
  readonly network: Network;
  readonly random: Random;
  readonly checker: ClusterChecker;
  readonly grid: ExpertGrid;
  readonly bounds: ClusterBounds;
  readonly fronts: readonly string[];
  readonly shards: readonly string[];
  readonly bug: PlantedBug | undefined;
  /** Tokens per second by slot, as each front measures its own; they shift while there are faults. */
  loads: ReadonlyMap<string, Float64Array>;
  /** Factor on a node's computing time. */
  readonly slowness: Map<string, number>;
}

export type Message =
  | ConnectionClosed
  | { type: "join"; member: Member; sentMs: number }
  | { type: "renew"; member: Member; fence: number; sentMs: number }
  | { type: "granted"; fence: number; sentMs: number }
  | { type: "refused"; fence: number }
  | { type: "propose"; proposal: PlanProposal }
  | { type: "view"; view: MembershipView }
  | { type: "load"; load: Float64Array }
  | { type: "assign"; assignment: Assignment }
  | { type: "report"; report: HeldReport; sequence: number }
  | { type: "call"; attempt: number; epoch: number; call: MockCall; experts: readonly number[] }
  | { type: "cancel"; attempt: number }
  | { type: "reply"; attempt: number; epoch: number; values: PairValue[] }
  | { type: "refusal"; attempt: number; epoch: number; reason: RefusalReason };

/** The key-value store: keeps its data through pauses, tells the fronts every change and often. */
export class SimStore implements Process {
  readonly #world: World;
  readonly #table: MemberTable;
  #toldRevision = -1;
  #toldMs = -Infinity;

  constructor(world: World) {
    this.#world = world;
    this.#table = new MemberTable({ ttlMs: world.bounds.leaseTtlMs });
  }

  get view(): MembershipView {
    return this.#table.view;
  }

  receive(from: string, message: unknown): void {
    const nowMs = this.#world.network.clockOf(STORE);
    const request = message as Message;
    const answer = (reply: Message) => this.#world.network.send(STORE, from, reply);
    if (request.type === "join") {
      const fence = this.#table.join(request.member, nowMs);
      if (fence) answer({ type: "granted", fence, sentMs: request.sentMs });
    } else if (request.type === "renew") {
      const { member, fence, sentMs } = request;
      const isHeld = this.#table.renew(member, { fence, nowMs });
      answer(isHeld ? { type: "granted", fence, sentMs } : { type: "refused", fence });
    } else if (request.type === "propose") this.#publish(request.proposal);
  }

  #publish(proposal: PlanProposal): void {
    const { network, checker, bug } = this.#world;
    const revision = this.#table.view.plan?.revision ?? 0;
    const isBroken = bug === "plans_overwritten";
    const wasDone = this.#table.publish(
      isBroken ? { ...proposal, expectedRevision: revision } : proposal,
    );
    const { planner, placement } = proposal;
    network.trace(
      `${planner} publishes epoch ${placement.epoch}: ${wasDone ? "done" : "refused"} ` +
        placement.owners.map((owners) => owners.map((id) => id.slice(6)).join("+")),
    );
    if (wasDone || isBroken) checker.published(proposal);
  }

  tick(nowMs: number): void {
    this.#table.tick(nowMs);
    const { view } = this.#table;
    if (view.revision === this.#toldRevision && nowMs - this.#toldMs < 40) return;
    this.#toldRevision = view.revision;
    this.#toldMs = nowMs;
    for (const front of this.#world.fronts) {
      this.#world.network.send(STORE, front, { type: "view", view });
    }
  }
}

/** Keeps one lease with the store, over the network. */
export class SimLease {
  readonly keeper: LeaseKeeper;
  readonly #world: World;
  member: Member;

  constructor(world: World, member: Member) {
    this.#world = world;
    this.member = member;
    const { leaseTtlMs, leaseRenewMs } = world.bounds;
    this.keeper = new LeaseKeeper({ ttlMs: leaseTtlMs, renewMs: leaseRenewMs });
  }

  tick(nowMs: number): void {
    const action = this.keeper.tick(nowMs);
    if (!action) return;
    const { member } = this;
    const message: Message = action === "join"
      ? { type: "join", member, sentMs: nowMs }
      : { type: "renew", member, fence: this.keeper.fence, sentMs: nowMs };
    this.#world.network.send(member.id, STORE, message);
  }

  /** True when a new lease began. */
  receive(message: Message): boolean {
    const before = this.keeper.fence;
    if (message.type === "granted") this.keeper.granted(message.fence, message.sentMs);
    if (message.type === "refused") this.keeper.refused(message.fence);
    return this.keeper.fence !== 0 && this.keeper.fence !== before;
  }
}

interface Job {
  readonly from: string;
  readonly message: Message & { type: "call" };
  leftMs: number;
}

/** A shard: holds experts, loads what it is told, one after the other, and computes calls. */
export class SimShard implements Process {
  readonly #world: World;
  readonly #node: ClusterNode;
  readonly #holdings: Holdings;
  readonly #lease: SimLease;
  readonly #loads: { slot: number; leftMs: number }[] = [];
  readonly #jobs: Job[] = [];
  #sequence = 0;
  #reportedMs = -Infinity;

  constructor(world: World, node: ClusterNode) {
    this.#world = world;
    this.#node = node;
    const incarnation = world.network.startOf(node.id);
    world.checker.started(node.id);
    const member: Member = { id: node.id, incarnation, role: "shard", address: "", node };
    this.#lease = new SimLease(world, member);
    this.#holdings = new Holdings({
      node: node.id,
      incarnation,
      grid: world.grid,
      capacity: node.memoryBytes,
      sizeOf: (slot) => bytesOfSlots(node, world.grid, [slot]),
    });
  }

  get jobCount(): number {
    return this.#jobs.length;
  }

  get isDraining(): boolean {
    return this.#lease.member.node?.draining ?? false;
  }

  drain(): void {
    const { member } = this.#lease;
    this.#world.network.trace(`${member.id} drains`);
    this.#lease.member = { ...member, node: { ...this.#node, draining: true } };
  }

  receive(from: string, message: unknown): void {
    const request = message as Message;
    if (request.type === "assign") this.#assign(request.assignment);
    else if (request.type === "call") this.#take(from, request);
    else if (request.type === "cancel") this.#drop(from, request.attempt);
    else if (this.#lease.receive(request)) this.#holdings.rejoined();
  }

  #assign(assignment: Assignment): void {
    const { checker, network, bug } = this.#world;
    const { id } = this.#node;
    const wanted = bug === "early_drop" && assignment.epochMin < assignment.epochMax
      ? { ...assignment, keep: new Set([...assignment.keep].filter((slot) => slot % 2 === 0)) }
      : assignment;
    const { load, drop } = this.#holdings.assign(wanted);
    if (load.length + drop.length > 0) {
      const { fence, serial, epochMin, epochMax } = assignment;
      network.trace(
        `${id} follows ${fence}.${serial} epochs ${epochMin}-${epochMax}: loads ${load}; drops ${drop}`,
      );
    }
    for (const slot of drop) checker.dropped(id, slot);
    const times = load.map((slot) => ({ slot, leftMs: 4 + this.#world.random() * 16 }));
    this.#loads.push(...times);
  }

  #take(from: string, message: Message & { type: "call" }): void {
    const { network, bug } = this.#world;
    const { attempt, epoch, experts, call } = message;
    const reason = this.#holdings.refusal({ epoch, layer: call.layer, experts });
    if (reason && bug !== "epochs_unchecked") {
      network.trace(`${this.#node.id} refuses attempt ${attempt}: ${reason}`);
      return network.send(this.#node.id, from, { type: "refusal", attempt, epoch, reason });
    }
    const slowness = this.#world.slowness.get(this.#node.id) ?? 1;
    this.#jobs.push({ from, message, leftMs: (1 + experts.length) * slowness });
  }

  #drop(from: string, attempt: number): void {
    const at = this.#jobs.findIndex((job) => job.from === from && job.message.attempt === attempt);
    if (at >= 0) this.#jobs.splice(at, 1);
  }

  tick(nowMs: number): void {
    this.#lease.tick(nowMs);
    this.#load();
    this.#compute();
    if (nowMs - this.#reportedMs < 25) return;
    this.#reportedMs = nowMs;
    const report = this.#holdings.report();
    this.#sequence += 1;
    for (const front of this.#world.fronts) {
      const message: Message = { type: "report", report, sequence: this.#sequence };
      this.#world.network.send(this.#node.id, front, message);
    }
  }

  #load(): void {
    const next = this.#loads[0];
    if (!next || (next.leftMs -= TICK_MS) > 0) return;
    this.#loads.shift();
    if (this.#holdings.held.has(next.slot)) return;
    if (this.#holdings.loaded(next.slot)) this.#world.checker.loaded(this.#node.id, next.slot);
  }

  #compute(): void {
    const job = this.#jobs[0];
    if (!job || (job.leftMs -= TICK_MS) > 0) return;
    this.#jobs.shift();
    const { attempt, epoch, call, experts } = job.message;
    const first = this.#world.grid.firstSlot(call.layer);
    // An expert that is not here yields rubbish; only the refusal above keeps that away.
    const isHere = this.#world.bug !== "epochs_unchecked" ||
      experts.every((expert) => this.#holdings.held.has(first + expert));
    const values = computeExperts(call, experts)
      .map((pair) => isHere ? pair : { ...pair, value: 0 });
    this.#world.network.send(this.#node.id, job.from, { type: "reply", attempt, epoch, values });
  }
}
