/**
 * Brings placements into force: copy, publish, drop. Every front runs one; only the planner (the
 * oldest front whose lease is held) acts. Synchronous: `tick` looks at the newest view and reports
 * and says what to send. Each phase is watched: one that makes no progress is given up, and the
 * nodes that held it up get no new experts for a while.
 *
 * An expert leaves a node only after a plan without it is published and its grace is over, and a
 * plan is published only when the nodes report that they hold what it needs.
 */
import { assert } from "@/assert.ts";
import type { ClusterBounds } from "./bounds.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import type { Assignment, HeldReport } from "./holdings.ts";
import {
  type Lease,
  type MembershipView,
  plannerOf,
  type PlanProposal,
  type PublishedPlan,
} from "./membership.ts";
import {
  bytesOfSlots,
  type ClusterNode,
  type NodeId,
  type Placement,
  slotsOf,
  uncoveredSlots,
} from "./placement.ts";
import { type PlannedPlacement, planPlacement, type PlanPolicy } from "./planner.ts";

export type CoordinatorEffect =
  | { readonly type: "assign"; readonly node: NodeId; readonly assignment: Assignment }
  | { readonly type: "publish"; readonly proposal: PlanProposal };

export interface CoordinatorInput {
  readonly nowMs: number;
  readonly view: MembershipView;
  readonly lease: Lease;
  /** Tokens per second by slot. */
  readonly load: Float64Array;
}

export type Phase =
  | { readonly name: "following" } // somebody else plans
  /** `abandoned` was not published; what is loaded of it is kept for the next plan. */
  | { readonly name: "idle"; readonly abandoned?: Placement }
  | Copying
  | {
    readonly name: "publishing";
    readonly target: Placement;
    readonly revision: number;
    sentMs: number;
  }
  | {
    readonly name: "settling";
    readonly previous: Placement | undefined;
    readonly untilMs: number;
  };

interface Copying {
  readonly name: "copying";
  readonly target: Placement;
  /** What must be loaded before the plan is published, by node. */
  readonly needed: ReadonlyMap<NodeId, readonly number[]>;
  missing: number;
  progressMs: number;
}

export interface PlanCounts {
  readonly published: number;
  /** Experts that published plans gave to nodes, and took from them. */
  readonly copies: number;
  readonly drops: number;
  /** Plans that were given up by a watchdog. */
  readonly givenUp: number;
}

type Wanted = Omit<Assignment, "fence" | "serial" | "keep"> & { readonly keep: Set<number> };

interface Sent {
  readonly assignment: Assignment;
  readonly incarnation: number;
  atMs: number;
}

export class Coordinator {
  readonly #id: NodeId;
  readonly #grid: ExpertGrid;
  readonly #bounds: ClusterBounds;
  #policy: PlanPolicy;
  #phase: Phase = { name: "following" };
  #reports = new Map<NodeId, HeldReport>();
  #sent = new Map<NodeId, Sent>();
  #serial = 0;
  #fence = 0;
  /** The plan that the phase builds on. */
  #known: PublishedPlan | undefined;
  #epochTried = 0;
  #members = "";
  #planDueMs = -Infinity;
  #improveDueMs = -Infinity;
  #improveAlways = false;
  readonly #slots = new WeakMap<Placement, Map<NodeId, ReadonlySet<number>>>();
  readonly #avoidUntilMs = new Map<NodeId, number>();
  #lastPlan: PlannedPlacement | undefined;
  readonly #counts = { published: 0, copies: 0, drops: 0, givenUp: 0 };
  readonly #expectedNodes: number;
  #startMs: number | undefined;

  /** A first plan waits for `expectedNodes`, for a while. */
  constructor(args: {
    id: NodeId;
    grid: ExpertGrid;
    policy: PlanPolicy;
    bounds: ClusterBounds;
    expectedNodes?: number;
  }) {
    this.#expectedNodes = args.expectedNodes ?? 1;
    this.#id = args.id;
    this.#grid = args.grid;
    this.#policy = args.policy;
    this.#bounds = args.bounds;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** What planning last came to: uncovered experts, refused nodes. */
  get lastPlan(): PlannedPlacement | undefined {
    return this.#lastPlan;
  }

  /** What came of this planner's plans so far. */
  get counts(): PlanCounts {
    return this.#counts;
  }

  /** Whether this front plans. */
  get isPlanning(): boolean {
    return this.#phase.name !== "following";
  }

  get reports(): ReadonlyMap<NodeId, HeldReport> {
    return this.#reports;
  }

  /** Whether a rebalance was asked for and is not over. */
  get isRebalancing(): boolean {
    return this.#improveAlways;
  }

  /** Plans anew at the next chance, also when the gain does not pay for the transfer. */
  rebalance(): void {
    this.#improveAlways = true;
    this.#planDueMs = -Infinity;
  }

  setPolicy(policy: PlanPolicy): void {
    this.#policy = policy;
    this.#planDueMs = -Infinity;
  }

  /** Takes a node's newest report; older ones of the same process are the caller's to drop. */
  report(report: HeldReport): void {
    this.#reports.set(report.node, report);
  }

  tick(input: CoordinatorInput): CoordinatorEffect[] {
    for (const id of this.#reports.keys()) {
      if (!input.view.members.has(id)) this.#reports.delete(id);
    }
    if (!this.#isPlanner(input)) {
      this.#phase = { name: "following" };
      return [];
    }
    if (this.#phase.name === "following" || this.#fence !== input.lease.fence) {
      this.#takeOver(input);
    }
    this.#noticePlan(input);
    this.#noticeMembers(input);
    const effects: CoordinatorEffect[] = [];
    if (this.#phase.name === "settling" && input.nowMs >= this.#phase.untilMs) {
      this.#phase = { name: "idle" };
    }
    if (this.#phase.name === "idle" && input.nowMs >= this.#planDueMs) this.#plan(input);
    if (this.#phase.name === "copying") this.#watchCopies(input);
    if (this.#phase.name === "publishing") effects.push(...this.#publish(input));
    effects.push(...this.#assign(input));
    return effects;
  }

  #isPlanner({ view, lease }: CoordinatorInput): boolean {
    const planner = plannerOf(view);
    return lease.isHeld && planner?.member.id === this.#id && planner.fence === lease.fence;
  }

  /** Begins to plan: what an earlier planner published stays in force, with its grace. */
  #takeOver({ nowMs, view, lease }: CoordinatorInput): void {
    this.#fence = lease.fence;
    this.#sent.clear();
    this.#known = view.plan;
    this.#epochTried = Math.max(this.#epochTried, view.plan?.placement.epoch ?? 0);
    this.#phase = { name: "idle" };
    this.#planDueMs = nowMs + this.#bounds.planSettleMs;
    this.#improveDueMs = nowMs + this.#bounds.planIntervalMs;
  }

  /** A plan appeared: ours, or that of another planner, which ends what we were doing. */
  #noticePlan({ nowMs, view }: CoordinatorInput): void {
    if ((view.plan?.revision ?? 0) === (this.#known?.revision ?? 0)) return;
    const previous = this.#known?.placement;
    if (view.plan) this.#countPublished(view.plan);
    this.#known = view.plan;
    this.#epochTried = Math.max(this.#epochTried, view.plan?.placement.epoch ?? 0);
    this.#phase = { name: "settling", previous, untilMs: nowMs + this.#bounds.planGraceMs };
    this.#planDueMs = nowMs;
  }

  #countPublished({ planner, placement }: PublishedPlan): void {
    const phase = this.#phase;
    const isOurs = phase.name === "publishing" && planner === this.#id &&
      placement.epoch === phase.target.epoch;
    if (!isOurs || !this.#lastPlan) return;
    this.#counts.published += 1;
    this.#counts.copies += this.#lastPlan.copies.length;
    this.#counts.drops += this.#lastPlan.drops.length;
  }

  /** Plans when the members changed, soon: they may change further, or come back. */
  #noticeMembers({ nowMs, view }: CoordinatorInput): void {
    const nodes = nodesOf(view);
    const members = JSON.stringify(
      nodes.map((node) => [node.id, view.members.get(node.id)!.member.incarnation, node.draining]),
    );
    if (members === this.#members) return;
    const live = new Set(nodes.map(({ id }) => id));
    const isLost = view.plan?.placement.owners.some((owners) => !owners.some((id) => live.has(id)));
    this.#members = members;
    this.#planDueMs = nowMs + this.#bounds.planSettleMs;
    const phase = this.#phase;
    if (phase.name !== "copying") return;
    const isBroken = [...phase.needed.keys()].some((id) => !live.has(id));
    if (isBroken || isLost) this.#giveUp();
  }

  #giveUp(): void {
    assert(this.#phase.name === "copying", this.#phase.name);
    this.#counts.givenUp += 1;
    this.#phase = { name: "idle", abandoned: this.#phase.target };
  }

  #plan({ nowMs, view, load }: CoordinatorInput): void {
    this.#startMs ??= nowMs;
    const isEarly = nowMs - this.#startMs < this.#bounds.planFirstWaitMs;
    if (!view.plan && isEarly && nodesOf(view).length < this.#expectedNodes) return;
    const improve = this.#improveAlways ? "always" : nowMs >= this.#improveDueMs;
    for (const [id, untilMs] of this.#avoidUntilMs) {
      if (nowMs >= untilMs) this.#avoidUntilMs.delete(id);
    }
    const planned = planPlacement({
      grid: this.#grid,
      nodes: nodesOf(view),
      load,
      policy: this.#policy,
      current: view.plan?.placement,
      held: this.#heldByMembers(view),
      avoid: new Set(this.#avoidUntilMs.keys()),
      improve,
    });
    this.#lastPlan = planned;
    this.#planDueMs = nowMs + this.#bounds.planIntervalMs;
    if (planned.copies.length + planned.drops.length === 0) {
      this.#phase = { name: "idle" };
      this.#improveAlways = false;
      if (improve !== false) this.#improveDueMs = nowMs + this.#bounds.planIntervalMs;
      return;
    }
    this.#startCopying(planned, { nowMs, view });
  }

  #heldByMembers(view: MembershipView): Map<NodeId, ReadonlySet<number>> {
    const held = new Map<NodeId, ReadonlySet<number>>();
    for (const report of this.#reports.values()) {
      if (this.#isCurrent(report, view)) held.set(report.node, report.held);
    }
    return held;
  }

  #isCurrent({ node, incarnation }: HeldReport, view: MembershipView): boolean {
    return view.members.get(node)?.member.incarnation === incarnation;
  }

  #startCopying(planned: PlannedPlacement, args: { nowMs: number; view: MembershipView }): void {
    const { nowMs, view } = args;
    const epochs = [...this.#reports.values()].map(({ epochMax }) => epochMax);
    const epoch = Math.max(view.plan?.placement.epoch ?? 0, this.#epochTried, ...epochs) + 1;
    this.#epochTried = epoch;
    const needed = new Map<NodeId, number[]>();
    const need = (node: NodeId, slot: number) => {
      const slots = needed.get(node);
      if (slots) slots.push(slot);
      else needed.set(node, [slot]);
    };
    for (const { node, slot } of planned.copies) need(node, slot);
    const copied = new Set(planned.copies.map(({ slot }) => slot));
    for (const { slot } of planned.drops) {
      if (copied.has(slot)) continue;
      for (const node of planned.owners[slot]!) need(node, slot);
    }
    const target = { epoch, owners: planned.owners };
    this.#phase = { name: "copying", target, needed, missing: Infinity, progressMs: nowMs };
  }

  /** Publishes once everything needed is loaded; gives up when nothing more gets loaded. */
  #watchCopies({ nowMs, view }: CoordinatorInput): void {
    const phase = this.#phase;
    assert(phase.name === "copying", phase.name);
    const held = this.#heldByMembers(view);
    const late: NodeId[] = [];
    let missing = 0;
    for (const [node, slots] of phase.needed) {
      // An older assignment may still be under way and make the node drop what it holds now.
      const isTold = this.#follows(node, phase.target.epoch);
      const count = slots.filter((slot) => !isTold || !held.get(node)?.has(slot)).length;
      if (count > 0) late.push(node);
      missing += count;
    }
    if (missing === 0) {
      const { target } = phase;
      this.#phase = {
        name: "publishing",
        target,
        revision: this.#known?.revision ?? 0,
        sentMs: -Infinity,
      };
      return;
    }
    if (missing < phase.missing) [phase.missing, phase.progressMs] = [missing, nowMs];
    const hasFailed = late.some((node) => this.#hasFailed(node));
    if (!hasFailed && nowMs - phase.progressMs < this.#bounds.planStallMs) return;
    for (const node of late) {
      if (hasFailed && !this.#hasFailed(node)) continue;
      this.#avoidUntilMs.set(node, nowMs + 2 * this.#bounds.planStallMs);
    }
    this.#planDueMs = nowMs;
    this.#giveUp();
  }

  /** Whether the node's report answers the newest assignment, made for the epoch. */
  #follows(node: NodeId, epoch: number): boolean {
    const report = this.#reports.get(node);
    const sent = this.#sent.get(node)?.assignment;
    return sent?.epochMax === epoch && report?.fence === sent.fence &&
      report.serial === sent.serial;
  }

  /** Whether the node says that it cannot load what the plan asks for. */
  #hasFailed(node: NodeId): boolean {
    const phase = this.#phase;
    return phase.name === "copying" && this.#follows(node, phase.target.epoch) &&
      this.#reports.get(node)?.failure !== undefined;
  }

  /** Asks for the plan to be published; again when no answer shows. */
  #publish({ nowMs }: CoordinatorInput): CoordinatorEffect[] {
    const phase = this.#phase;
    assert(phase.name === "publishing", phase.name);
    if (nowMs - phase.sentMs < this.#bounds.planPublishMs) return [];
    phase.sentMs = nowMs;
    const { target: placement, revision: expectedRevision } = phase;
    const proposal = { placement, planner: this.#id, fence: this.#fence, expectedRevision };
    return [{ type: "publish", proposal }];
  }

  /** Tells every node what to hold: when that changed, and again until it reports so. */
  #assign({ nowMs, view }: CoordinatorInput): CoordinatorEffect[] {
    const effects: CoordinatorEffect[] = [];
    const phase = this.#phase;
    // Before any plan, nodes keep what they have: the first plan will prefer it.
    if (!view.plan && phase.name === "idle" && !phase.abandoned) return [];
    const orphans = orphansOf(view);
    for (const node of nodesOf(view)) {
      const { id } = node;
      const { incarnation } = view.members.get(id)!.member;
      const report = this.#reports.get(id);
      // Who has not said what it holds is not told what to drop.
      if (report?.incarnation !== incarnation) continue;
      const wanted = this.#wanted(id, view);
      this.#keepOrphans(wanted.keep, { node, orphans });
      let sent = this.#sent.get(id);
      if (sent?.incarnation !== incarnation || !isEqual(sent.assignment, wanted)) {
        const assignment = { ...wanted, fence: this.#fence, serial: ++this.#serial };
        sent = { assignment, incarnation, atMs: -Infinity };
        this.#sent.set(id, sent);
      }
      const { fence, serial } = sent.assignment;
      const isKnown = report.fence === fence && report.serial === serial;
      if (isKnown || nowMs - sent.atMs < this.#bounds.nodeSilenceMs / 4) continue;
      sent.atMs = nowMs;
      effects.push({ type: "assign", node: id, assignment: sent.assignment });
    }
    return effects;
  }

  /** Experts without a live owner stay with whoever has them by chance, as far as room allows. */
  #keepOrphans(keep: Set<number>, args: { node: ClusterNode; orphans: readonly number[] }): void {
    const { node, orphans } = args;
    const held = this.#reports.get(node.id)?.held;
    const kept = orphans.filter((slot) => held?.has(slot) && !keep.has(slot));
    if (kept.length === 0) return;
    let bytes = bytesOfSlots(node, this.#grid, keep);
    for (const slot of kept) {
      bytes += bytesOfSlots(node, this.#grid, [slot]);
      if (bytes > node.memoryBytes) return;
      keep.add(slot);
    }
  }

  /** `slotsOf`, once per plan: this is asked for every node with every tick. */
  #slotsOf(placement: Placement | undefined, node: NodeId): ReadonlySet<number> {
    if (!placement) return new Set();
    let slots = this.#slots.get(placement);
    if (!slots) this.#slots.set(placement, slots = new Map());
    let set = slots.get(node);
    if (!set) slots.set(node, set = slotsOf(placement, node));
    return set;
  }

  #wanted(node: NodeId, view: MembershipView): Wanted {
    const current = view.plan?.placement;
    const keep = new Set(this.#slotsOf(current, node));
    const epoch = current?.epoch ?? 0;
    const phase = this.#phase;
    const target = phase.name === "copying" || phase.name === "publishing"
      ? phase.target
      : phase.name === "idle"
      ? phase.abandoned
      : undefined;
    if (target) {
      return {
        keep: keep.union(this.#slotsOf(target, node)),
        epochMin: epoch,
        epochMax: target.epoch,
      };
    }
    if (phase.name === "settling" && phase.previous) {
      const { previous } = phase;
      return {
        keep: keep.union(this.#slotsOf(previous, node)),
        epochMin: previous.epoch,
        epochMax: epoch,
      };
    }
    return { keep, epochMin: epoch, epochMax: epoch };
  }
}

/** Live nodes that offer memory for experts, by id. */
export function nodesOf(view: MembershipView): ClusterNode[] {
  return [...view.members.values()].flatMap(({ member }) => member.node ?? [])
    .sort((a, b) => a.id < b.id ? -1 : 1);
}

/** Slots of the plan in force that no live node owns. */
function orphansOf({ plan, members }: MembershipView): number[] {
  return plan ? uncoveredSlots(plan.placement, (node) => members.has(node)) : [];
}

function isEqual(a: Assignment, b: Wanted): boolean {
  return a.epochMin === b.epochMin && a.epochMax === b.epochMax && a.keep.size === b.keep.size &&
    a.keep.isSubsetOf(b.keep);
}
