/** A simulated front: plans when it is the planner, and makes one layer call after the other. */
import { AssignedWork } from "@/cluster/assigned_work.ts";
import { type CallEffect, FALLBACK_NODE, LayerCall } from "@/cluster/calls.ts";
import type { ReplyKey } from "@/cluster/call_shares.ts";
import { Coordinator } from "@/cluster/coordinator.ts";
import { HedgeBudget } from "@/cluster/hedge_budget.ts";
import type { HeldReport } from "@/cluster/holdings.ts";
import { addLoads } from "@/cluster/load.ts";
import { emptyView, type Member, type MembershipView } from "@/cluster/membership.ts";
import { NodeHealth } from "@/cluster/node_health.ts";
import type { PlanPolicy } from "@/cluster/planner.ts";
import { RouteTable } from "@/cluster/replica_choice.ts";
import type { Process } from "./cluster_network.ts";
import { type Message, SimLease, STORE, type World } from "./cluster_processes.ts";
import { computeExperts, type MockCall, type PairValue } from "./mock_experts.ts";
import { between } from "./workload.ts";

/** Ticks between two looks of the coordinator. */
const PLAN_TICKS = 5;
const WORK_HALF_LIFE_MS = 1000;

interface RunningCall {
  readonly call: MockCall;
  readonly machine: LayerCall;
  readonly startedMs: number;
  readonly results: Map<number, PairValue[]>;
}

export interface FrontSetup {
  readonly policy: PlanPolicy;
  readonly fallback: boolean;
  readonly callsAtOnce: number;
  readonly expectedNodes: number;
}

export class SimFront implements Process {
  readonly #world: World;
  readonly #id: string;
  readonly #setup: FrontSetup;
  readonly #lease: SimLease;
  readonly coordinator: Coordinator;
  readonly #health: NodeHealth;
  readonly #hedges: HedgeBudget;
  readonly #work = new AssignedWork({ halfLifeMs: WORK_HALF_LIFE_MS });
  readonly #sequences = new Map<string, { incarnation: number; sequence: number }>();
  readonly #running = new Set<RunningCall>();
  /** Experts that this process computes itself: when each is done. */
  #fallbacks: { key: ReplyKey; owner: RunningCall; experts: readonly number[]; doneMs: number }[] =
    [];
  readonly #otherLoads = new Map<string, Float64Array>();
  #view: MembershipView = emptyView;
  #routes: RouteTable | undefined;
  #attempts: number;
  #ticks = 0;
  #nowMs = 0;
  #sentRows = 0;
  #hedgedRows = 0;
  /** False: no new calls. */
  isCalling = true;

  constructor(world: World, id: string, setup: FrontSetup) {
    this.#world = world;
    this.#id = id;
    this.#setup = setup;
    const { grid, bounds } = world;
    const incarnation = world.network.startOf(id);
    this.#attempts = incarnation * 1e6;
    const member: Member = { id, incarnation, role: "front", address: "", node: undefined };
    this.#lease = new SimLease(world, member);
    const { policy, expectedNodes } = setup;
    this.coordinator = new Coordinator({ id, grid, policy, bounds, expectedNodes });
    this.#health = new NodeHealth(bounds);
    const share = world.bug === "hedges_unbounded" ? 1 : bounds.hedgedRowsShare;
    this.#hedges = new HedgeBudget({ share, savedMax: bounds.hedgedRowsSaved });
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Rows that some node still counts as waiting. */
  get waitingRows(): number {
    return this.#world.shards.reduce((sum, node) => sum + this.#health.waitingRows(node), 0);
  }

  receive(from: string, message: unknown): void {
    const news = message as Message;
    if (news.type === "view") this.#see(news.view);
    else if (news.type === "report") this.#report(news.report, news.sequence);
    else if (news.type === "load") this.#otherLoads.set(from, news.load);
    else if (news.type === "closed") this.#lose(news.node);
    else if (news.type === "reply") this.#reply({ ...news, node: from }, news.values);
    else if (news.type === "refusal") {
      for (const running of [...this.#running]) {
        this.#act(running, running.machine.refuse(this.#nowMs, { ...news, node: from }));
      }
    } else this.#lease.receive(news);
  }

  #see(view: MembershipView): void {
    if (view.revision <= this.#view.revision) return;
    this.#view = view;
    for (const id of this.#otherLoads.keys()) {
      if (!view.members.has(id)) this.#otherLoads.delete(id);
    }
    this.#route();
  }

  /** What all fronts send to each expert, as far as this one knows. */
  get load(): Float64Array {
    const { loads, grid } = this.#world;
    return addLoads([loads.get(this.#id)!, ...this.#otherLoads.values()], grid.size);
  }

  #shareLoad(): void {
    const { loads, fronts, network } = this.#world;
    const message: Message = { type: "load", load: loads.get(this.#id)! };
    for (const other of fronts) if (other !== this.#id) network.send(this.#id, other, message);
  }

  #report(report: HeldReport, sequence: number): void {
    const { node, incarnation } = report;
    const last = this.#sequences.get(node);
    const isOld = last &&
      (incarnation < last.incarnation ||
        (incarnation === last.incarnation && sequence <= last.sequence));
    if (isOld) return;
    if (last && last.incarnation < incarnation) this.#lose(node);
    if (!this.#health.isConnected(node)) {
      this.#health.connected(node, { nowMs: this.#nowMs, speed: 1000 });
    }
    this.#sequences.set(node, { incarnation, sequence });
    this.#health.heard(node, this.#nowMs);
    const before = this.coordinator.reports.get(node)?.held;
    this.coordinator.report(report);
    if (before?.size !== report.held.size || !before.isSubsetOf(report.held)) this.#route();
  }

  #lose(node: string): void {
    this.#health.lost(node);
    for (const running of [...this.#running]) {
      this.#act(running, running.machine.nodeLost(this.#nowMs, node));
    }
  }

  #route(): void {
    const placement = this.#view.plan?.placement;
    if (!placement) return;
    const { reports } = this.coordinator;
    const isHeld = (node: string, slot: number) => reports.get(node)?.held.has(slot) ?? false;
    this.#work.follow(placement.epoch);
    this.#routes = new RouteTable({ grid: this.#world.grid, placement, isHeld });
  }

  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#lease.tick(nowMs);
    this.#work.tick(nowMs);
    this.#ticks += 1;
    if (this.#ticks % PLAN_TICKS === 0) this.#coordinate();
    for (const item of this.#fallbacks.filter(({ doneMs }) => nowMs >= doneMs)) {
      const values = computeExperts(item.owner.call, item.experts);
      this.#reply(item.key, values);
    }
    this.#fallbacks = this.#fallbacks.filter(({ doneMs }) => nowMs < doneMs);
    for (const running of [...this.#running]) {
      if (this.#world.bug !== "no_retries") this.#act(running, running.machine.tick(nowMs));
    }
    const isReady = this.isCalling && this.#routes !== undefined;
    if (isReady && this.#running.size < this.#setup.callsAtOnce) this.#start();
  }

  #coordinate(): void {
    this.#shareLoad();
    const { keeper } = this.#lease;
    const phase = this.coordinator.phase.name;
    const effects = this.coordinator.tick({
      nowMs: this.#nowMs,
      view: this.#view,
      lease: { fence: keeper.fence, isHeld: keeper.isHeld(this.#nowMs) },
      load: this.load,
    });
    const { network, checker } = this.#world;
    if (phase !== this.coordinator.phase.name) {
      network.trace(`${this.#id} ${phase} -> ${this.coordinator.phase.name}`);
    }
    for (const effect of effects) {
      if (effect.type === "assign") {
        checker.assigned(effect.node, effect.assignment);
        network.send(this.#id, effect.node, effect);
      } else network.send(this.#id, STORE, { type: "propose", proposal: effect.proposal });
    }
  }

  #start(): void {
    const { random, grid, bounds } = this.#world;
    const layer = grid.layers[between(random, 0, grid.layers.length - 1)]!;
    const rows = Array.from({ length: between(random, 1, 4) }, () => between(random, 0, 1e9));
    const choices = rows.map(() => {
      const first = between(random, 0, grid.experts - 1);
      return [first, (first + between(random, 1, grid.experts - 1)) % grid.experts];
    });
    const call = { layer, rows, choices };
    const demand = new Map<number, number>();
    for (const expert of choices.flat()) demand.set(expert, (demand.get(expert) ?? 0) + 1);
    const machine = new LayerCall({
      context: {
        health: this.#health,
        hedges: this.#hedges,
        work: this.#work,
        bounds,
        routes: () => this.#routes,
        localNode: undefined,
        fallback: this.#setup.fallback,
        spreadRows: 8,
        nextAttempt: () => ++this.#attempts,
      },
      layer,
      demand: [...demand].map(([expert, count]) => ({ expert, rows: count })),
      deadlineMs: this.#nowMs + bounds.callMs,
    });
    const startedMs = this.#world.network.nowMs;
    const running = { call, machine, startedMs, results: new Map<number, PairValue[]>() };
    this.#running.add(running);
    this.#sentRows += choices.flat().length;
    this.#act(running, machine.start(this.#nowMs));
  }

  #reply(key: ReplyKey, values: PairValue[]): void {
    for (const running of [...this.#running]) {
      const { isUsed, effects } = running.machine.reply(this.#nowMs, key);
      const isKept = isUsed || this.#world.bug === "late_parts_combined";
      if (isKept) running.results.set(key.attempt, values);
      this.#act(running, effects);
      if (isUsed) return;
    }
  }

  #act(running: RunningCall, effects: readonly CallEffect[]): void {
    const { network } = this.#world;
    for (const effect of effects) {
      if (effect.type === "send") {
        const { attempt, epoch, experts, node } = effect;
        network.trace(`${this.#id} asks ${node} attempt ${attempt} epoch ${epoch}: ${experts}`);
        network.send(this.#id, node, { type: "call", attempt, epoch, call: running.call, experts });
      } else if (effect.type === "cancel") {
        if (effect.node === FALLBACK_NODE) {
          this.#fallbacks = this.#fallbacks.filter(({ key }) => key.attempt !== effect.attempt);
        } else network.send(this.#id, effect.node, effect);
      } else if (effect.type === "compute") {
        const key = { attempt: effect.attempt, node: FALLBACK_NODE, epoch: 0 };
        const doneMs = this.#nowMs + 10;
        this.#fallbacks.push({ key, owner: running, experts: effect.experts, doneMs });
      } else this.#end(running, effect);
    }
  }

  #end(running: RunningCall, effect: CallEffect & { type: "complete" | "fail" }): void {
    const { checker, network, bounds, bug } = this.#world;
    this.#running.delete(running);
    const { hedgedRows, retries, fallbacks } = running.machine.counts;
    this.#hedgedRows += hedgedRows;
    checker.counts.hedged += hedgedRows;
    checker.counts.retries += retries;
    checker.counts.fallbacks += fallbacks;
    const { hedgedRowsShare: share, hedgedRowsSaved: saved } = bounds;
    checker.hedged({ rows: this.#hedgedRows, sentRows: this.#sentRows, share, saved });
    if (effect.type === "fail") {
      network.trace(`${this.#id} call fails: ${effect.error.message}`);
      return checker.failed(effect.error.message, running.startedMs);
    }
    const kept = bug === "late_parts_combined"
      ? [...running.results.values()]
      : effect.parts.map(({ attempt }) => running.results.get(attempt)!);
    const { startedMs } = running;
    checker.completed(running.call, { parts: effect.parts, values: kept.flat(), startedMs });
  }
}
