/**
 * One layer's call to the experts of other nodes, as a state machine: who is asked for what, and
 * again, and elsewhere. Synchronous; the shell sends frames, keeps replies by attempt, and adds up
 * the parts that `complete` names. Expert calls are pure functions, so asking twice does no harm;
 * what matters is that each expert's result is used exactly once.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import type { AssignedWork } from "./assigned_work.ts";
import type { ClusterBounds } from "./bounds.ts";
import {
  type Attempt,
  type CallPart,
  collectParts,
  isAnswered,
  isLive,
  openShares,
  type ReplyKey,
  type Share,
  shiftTimes,
} from "./call_shares.ts";
import type { RefusalReason } from "./control_frames.ts";
import type { HedgeBudget } from "./hedge_budget.ts";

import type { NodeHealth } from "./node_health.ts";
import { coverageError, type NodeId } from "./placement.ts";
import { chooseReplicas, type ExpertDemand, type RouteTable } from "./replica_choice.ts";

/** What all calls of one front share. */
export interface CallContext {
  readonly health: NodeHealth;
  readonly hedges: HedgeBudget;
  readonly work: AssignedWork;
  readonly bounds: ClusterBounds;
  /** Routes of the newest plan; undefined before the first. */
  routes(): RouteTable | undefined;
  /** The node of this process: it is asked without a frame, and first. */
  readonly localNode: NodeId | undefined;
  /** Whether this process can compute any expert, read from disk, when nobody else does. */
  readonly fallback: boolean;
  /** Rows (token, expert) from which a call spreads over all owners. */
  readonly spreadRows: number;
  /**
   * A number for the next attempt, never used before: not even by an earlier process of this front,
   * whose replies may still be under way.
   */
  nextAttempt(): number;
}

/** Asked at first, again after a failure or silence, or beside a slow node. */
export type SendReason = "first" | "retry" | "hedge";

export type CallEffect =
  | (CallPart & {
    readonly type: "send";
    readonly reason: SendReason;
    readonly node: NodeId;
    readonly epoch: number;
    readonly layer: number;
    readonly deadlineMs: number;
  })
  /** Compute these experts in this process. */
  | (CallPart & { readonly type: "compute"; readonly layer: number })
  /** The attempt's result is not wanted any more. */
  | { readonly type: "cancel"; readonly attempt: number; readonly node: NodeId }
  /** Add up the results of these attempts, in this order; their experts are all, each once. */
  | { readonly type: "complete"; readonly parts: readonly CallPart[] }
  | { readonly type: "fail"; readonly error: OperatingError };

/** Attempts by this process itself carry this name. */
export const FALLBACK_NODE: NodeId = "";

export class LayerCall {
  readonly #context: CallContext;
  readonly #layer: number;
  readonly #rowsOf: ReadonlyMap<number, number>;
  readonly #root: Share;
  readonly #attempts = new Map<number, Attempt>();
  #deadlineMs: number;
  #isDone = false;
  #reason: SendReason = "first";
  #effects: CallEffect[] = [];
  readonly counts = { sent: 0, hedgedRows: 0, retries: 0, fallbacks: 0 };

  /** `demand` names each expert once. `deadlineMs` is a time, not a span. */
  constructor(args: {
    context: CallContext;
    layer: number;
    demand: readonly ExpertDemand[];
    deadlineMs: number;
  }) {
    this.#context = args.context;
    this.#layer = args.layer;
    this.#rowsOf = new Map(args.demand.map(({ expert, rows }) => [expert, rows]));
    assert(this.#rowsOf.size === args.demand.length, "an expert is demanded twice");
    assert(args.demand.length > 0, "a call needs experts");
    this.#deadlineMs = args.deadlineMs;
    this.#root = this.#share([...this.#rowsOf.keys()].sort((a, b) => a - b), new Set());
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  start(nowMs: number): CallEffect[] {
    this.#ask(this.#root, nowMs);
    this.#reason = "retry";
    for (const { node, share } of this.#attempts.values()) {
      if (this.#isRemote(node)) this.#context.hedges.earn(share.rows);
    }
    return this.#finish(nowMs);
  }

  /** A result arrived. Unknown, repeated and mismatched ones are ignored: true when it is used. */
  reply(nowMs: number, key: ReplyKey): { isUsed: boolean; effects: CallEffect[] } {
    const attempt = this.#find(key);
    if (!attempt) return { isUsed: false, effects: [] };
    const { node, share, sentMs } = attempt;
    this.#settle(attempt, "answered");
    if (node !== FALLBACK_NODE) {
      this.#context.health.answered(node, { nowMs, latencyMs: nowMs - sentMs, rows: share.rows });
    }
    return { isUsed: true, effects: this.#finish(nowMs) };
  }

  /** The node answered that it does not compute this. */
  refuse(nowMs: number, key: ReplyKey & { readonly reason: RefusalReason }): CallEffect[] {
    const attempt = this.#find(key);
    if (!attempt) return [];
    const { health } = this.#context;
    if (key.node !== FALLBACK_NODE) {
      const isBroken = key.reason === "failed" || key.reason === "bad_call";
      if (!isBroken) health.refused(key.node, nowMs);
      else if (attempt.state === "waiting") health.failed(key.node, nowMs);
    }
    this.#fail(attempt, nowMs);
    return this.#finish(nowMs);
  }

  /** The connection to a node ended: nothing that was sent to it will be answered. */
  nodeLost(nowMs: number, node: NodeId): CallEffect[] {
    for (const attempt of [...this.#attempts.values()]) {
      if (attempt.node !== node || !isLive(attempt)) continue;
      if (attempt.state === "waiting") this.#context.health.failed(node, nowMs);
      this.#fail(attempt, nowMs);
    }
    return this.#finish(nowMs);
  }

  tick(nowMs: number): CallEffect[] {
    if (this.#isDone) return [];
    const isOver = nowMs >= this.#deadlineMs;
    if (!isOver) this.#walk(this.#root, nowMs);
    return this.#finish(nowMs, isOver);
  }

  /**
   * This process did not run for a while: what nodes answered meanwhile is still unread, so the time
   * does not count, neither against them nor against the call.
   */
  stalled(ms: number): void {
    this.#deadlineMs += ms;
    for (const attempt of this.#attempts.values()) attempt.sentMs += ms;
    shiftTimes(this.#root, ms);
  }

  /** Nobody wants the result any more. */
  abort(): CallEffect[] {
    this.#close();
    return this.#take();
  }

  /** When `tick` has something to do next. */
  get wakeMs(): number {
    let wakeMs = this.#deadlineMs;
    for (const attempt of this.#attempts.values()) {
      if (!isLive(attempt) || !this.#isRemote(attempt.node)) continue;
      if (attempt.share.children.length > 0) continue;
      const afterMs = attempt.state === "late" ? Infinity : this.#context.bounds.attemptMs;
      const hedgeMs = this.#hedgeAfterMs(attempt) ?? Infinity;
      wakeMs = Math.min(wakeMs, attempt.sentMs + Math.min(afterMs, hedgeMs));
      if (attempt.state === "late") wakeMs = Math.min(wakeMs, attempt.share.retryMs);
    }
    for (const share of openShares(this.#root)) wakeMs = Math.min(wakeMs, share.retryMs);
    return wakeMs;
  }

  #find({ attempt: id, node, epoch }: ReplyKey): Attempt | undefined {
    const attempt = this.#attempts.get(id);
    const isOurs = attempt && isLive(attempt) && attempt.node === node && attempt.epoch === epoch;
    return isOurs ? attempt : undefined;
  }

  #share(experts: readonly number[], avoid: ReadonlySet<NodeId>): Share {
    const rows = experts.reduce((sum, expert) => sum + this.#rowsOf.get(expert)!, 0);
    return {
      experts,
      rows,
      avoid: new Set(avoid),
      attempt: undefined,
      children: [],
      tries: 0,
      retryMs: Infinity,
      lonelySinceMs: undefined,
    };
  }

  #isRemote(node: NodeId): boolean {
    return node !== FALLBACK_NODE && node !== this.#context.localNode;
  }

  /** Looks after one share and its children: open ones are asked again, slow ones elsewhere too. */
  #walk(share: Share, nowMs: number): void {
    const { attempt } = share;
    if (attempt?.state === "answered") return;
    for (const child of share.children) this.#walk(child, nowMs);
    if (attempt && isLive(attempt)) this.#watch(attempt, nowMs);
    else if (share.children.length === 0 && nowMs >= share.retryMs) this.#ask(share, nowMs);
  }

  #watch(attempt: Attempt, nowMs: number): void {
    const { node, share } = attempt;
    if (!this.#isRemote(node)) return;
    const elapsedMs = nowMs - attempt.sentMs;
    if (attempt.state === "waiting" && elapsedMs >= this.#context.bounds.attemptMs) {
      this.#settle(attempt, "late");
      this.#context.health.silent(node, { sentMs: attempt.sentMs, nowMs });
      share.avoid.add(node);
      share.retryMs = nowMs;
    }
    if (share.children.length > 0) return;
    if (attempt.state === "late") {
      if (nowMs >= share.retryMs) this.#askOthers(share, nowMs);
      return;
    }
    const hedgeMs = this.#hedgeAfterMs(attempt);
    if (hedgeMs !== undefined && elapsedMs >= hedgeMs) this.#hedge(attempt, nowMs);
  }

  #hedgeAfterMs({ node, share, state }: Attempt): number | undefined {
    if (state !== "waiting" || share.children.length > 0 || share.tries > HEDGES_MAX) {
      return undefined;
    }
    // Without replicas a timer would fire in every slow call for nothing.
    if (!this.#hasReplicas(share)) return undefined;
    return this.#context.health.p95Ms(node, share.rows);
  }

  #hasReplicas({ experts }: Share): boolean {
    const table = this.#context.routes();
    if (!table) return false;
    const first = table.grid.firstSlot(this.#layer);
    return experts.every((expert) => table.ownersOf(first + expert).length > 1);
  }

  /** A slow node: its experts are asked of replicas too, if others have all of them. */
  #hedge({ node, share }: Attempt, nowMs: number): void {
    share.tries += 1;
    const avoid = new Set(share.avoid).add(node);
    const groups = this.#groups({ ...share, avoid }, nowMs);
    if (groups.missing.length > 0 || groups.nodes.length === 0) return;
    if (!this.#context.hedges.spend(share.rows)) return;
    this.counts.hedgedRows += share.rows;
    this.#reason = "hedge";
    this.#split(share, { groups, avoid, nowMs });
    this.#reason = "retry";
  }

  /** A silent node: others are asked when there are any; its own reply is still taken. */
  #askOthers(share: Share, nowMs: number): void {
    const good = this.#groups(share, nowMs);
    const isHelped = good.nodes.length > 0 || this.#context.fallback;
    // One whose circuit is open may be well again; this one was silent just now.
    const groups = isHelped ? good : this.#groups(share, nowMs, "connected");
    if (isHelped || groups.nodes.length > 0) {
      this.counts.retries += 1;
      this.#split(share, { groups, avoid: share.avoid, nowMs });
    } else share.retryMs = nowMs + this.#context.bounds.retryMs;
  }

  /** Finds somebody for a share without attempt. */
  #ask(share: Share, nowMs: number): void {
    share.retryMs = Infinity;
    share.tries += 1;
    const groups = this.#groups(share, nowMs);
    if (groups.nodes.length > 0) this.#sendAll(share, { groups, nowMs });
    else if (this.#context.fallback) this.#compute(share, nowMs);
    else this.#askAnybody(share, nowMs);
  }

  /** Sends a share without attempt, whole or divided. */
  #sendAll(share: Share, args: { groups: Groups; nowMs: number }): void {
    const { groups, nowMs } = args;
    share.lonelySinceMs = undefined;
    const [first] = groups.nodes;
    const isWhole = groups.nodes.length === 1 && groups.missing.length === 0;
    if (isWhole) this.#send(share, { node: first!.node, nowMs });
    else this.#split(share, { groups, avoid: share.avoid, nowMs });
  }

  /** No good owner is left: also those that failed before, after a while; then wait for owners. */
  #askAnybody(share: Share, nowMs: number): void {
    const { bounds } = this.#context;
    const hadFailed = share.avoid.size > 0;
    share.avoid.clear();
    const groups = hadFailed ? undefined : this.#groups(share, nowMs, "connected");
    if (groups && groups.nodes.length > 0) return this.#sendAll(share, { groups, nowMs });
    if (!hadFailed) share.lonelySinceMs ??= nowMs;
    share.retryMs = nowMs + bounds.retryMs * Math.min(share.tries, RETRY_FACTOR_MAX);
  }

  #groups(share: Pick<Share, "experts" | "avoid">, nowMs: number, need = "good"): Groups {
    const { health, work, localNode, spreadRows } = this.#context;
    const table = this.#context.routes();
    if (!table) return { table: undefined, nodes: [], missing: share.experts };
    const isUsable = (number: number) => {
      const node = table.nodes[number]!;
      if (share.avoid.has(node)) return false;
      if (node === localNode) return true;
      return need === "good" ? health.isGood(node, nowMs) : health.isConnected(node);
    };
    const { expertsOf, missing } = chooseReplicas({
      table,
      layer: this.#layer,
      demand: share.experts.map((expert) => ({ expert, rows: this.#rowsOf.get(expert)! })),
      isUsable,
      busySeconds: (number) => health.busySeconds(table.nodes[number]!),
      workedSeconds: (number) => work.seconds(this.#layer, table.nodes[number]!),
      speed: (number) => health.speed(table.nodes[number]!),
      local: localNode,
      spreadRows,
    });
    const nodes = expertsOf.flatMap((experts, number) =>
      experts.length > 0 ? [{ node: table.nodes[number]!, experts }] : []
    );
    return { table, nodes, missing };
  }

  /** Divides a share among nodes; experts without one become a child that waits. */
  #split(
    share: Share,
    args: { groups: Groups; avoid: ReadonlySet<NodeId>; nowMs: number },
  ): void {
    const { groups, avoid, nowMs } = args;
    const children: Share[] = [];
    for (const { node, experts } of groups.nodes) {
      const child = this.#share(experts, avoid);
      children.push(child);
      this.#send(child, { node, nowMs });
    }
    if (groups.missing.length > 0) {
      const child = this.#share(groups.missing, avoid);
      children.push(child);
      if (this.#context.fallback) this.#compute(child, nowMs);
      else child.retryMs = nowMs;
    }
    share.children = children;
  }

  #send(share: Share, args: { node: NodeId; nowMs: number }): void {
    const { node, nowMs } = args;
    const epoch = this.#context.routes()!.epoch;
    const attempt = this.#attempt(share, { node, epoch, nowMs });
    this.counts.sent += 1;
    const { health, work } = this.#context;
    health.sent(node, share.rows);
    if (this.#isRemote(node)) work.add(this.#layer, node, share.rows / health.speed(node));
    this.#effects.push({
      type: "send",
      reason: this.#reason,
      node,
      epoch,
      attempt,
      layer: this.#layer,
      experts: share.experts,
      deadlineMs: this.#deadlineMs,
    });
  }

  #compute(share: Share, nowMs: number): void {
    const attempt = this.#attempt(share, { node: FALLBACK_NODE, epoch: 0, nowMs });
    this.counts.fallbacks += 1;
    this.#effects.push({ type: "compute", attempt, layer: this.#layer, experts: share.experts });
  }

  #attempt(share: Share, args: { node: NodeId; epoch: number; nowMs: number }): number {
    const { node, epoch, nowMs } = args;
    const id = this.#context.nextAttempt();
    share.attempt = { attempt: id, node, epoch, share, sentMs: nowMs, state: "waiting" };
    this.#attempts.set(id, share.attempt);
    return id;
  }

  /** An attempt will not be answered: its share is asked again unless children do its work. */
  #fail(attempt: Attempt, nowMs: number): void {
    this.#settle(attempt, "closed");
    const { share, node } = attempt;
    share.avoid.add(node);
    if (share.children.length > 0) return;
    this.counts.retries += 1;
    share.attempt = undefined;
    share.retryMs = nowMs;
    this.#ask(share, nowMs);
  }

  /** Ends what is superseded, then the call itself when everything is answered or hopeless. */
  #finish(nowMs: number, isOver = false): CallEffect[] {
    if (this.#isDone) return this.#take();
    this.#cancelLosers(this.#root, nowMs);
    const { bounds } = this.#context;
    const parts: CallPart[] = [];
    if (isAnswered(this.#root)) {
      collectParts(this.#root, parts);
      parts.sort((a, b) => a.experts[0]! - b.experts[0]!);
      this.#close();
      this.#effects.push({ type: "complete", parts });
      return this.#take();
    }
    // Only `tick` says that: after a stop of this process the first answer comes before its timer.
    const error = isOver
      ? new OperatingError("unavailable", `Layer ${this.#layer} got no answer in time`, {
        retryAfterSeconds: 1,
      })
      : this.#attempts.size > bounds.attempts
      ? new OperatingError("unavailable", `Layer ${this.#layer} failed ${bounds.attempts} times`, {
        retryAfterSeconds: 1,
      })
      : this.#ownerError(nowMs);
    if (error) {
      this.#close();
      this.#effects.push({ type: "fail", error });
    }
    return this.#take();
  }

  /** The error when some experts had nobody to ask for too long. */
  #ownerError(nowMs: number): OperatingError | undefined {
    const { ownerWaitMs } = this.#context.bounds;
    const lonely = openShares(this.#root).filter(({ lonelySinceMs }) =>
      lonelySinceMs !== undefined && nowMs - lonelySinceMs >= ownerWaitMs
    );
    if (lonely.length === 0) return undefined;
    const table = this.#context.routes();
    if (!table) {
      return new OperatingError("unavailable", "The experts are not placed yet", {
        retryAfterSeconds: 1,
      });
    }
    const slots = lonely.flatMap(({ experts }) =>
      experts.map((expert) => table.grid.slot(this.#layer, expert))
    );
    return coverageError(table.grid, slots);
  }

  /** Cancels attempts whose share, or an ancestor, is answered without them. */
  #cancelLosers(share: Share, nowMs: number, isSettled = false): void {
    const { attempt, children } = share;
    const isBeaten = children.length > 0 && children.every(isAnswered);
    if (attempt && isLive(attempt) && (isSettled || isBeaten)) {
      // Slower than others that started later: a few times in a row opens the circuit.
      if (!isSettled && attempt.state === "waiting" && this.#isRemote(attempt.node)) {
        this.#context.health.failed(attempt.node, nowMs);
      }
      this.#cancel(attempt);
    }
    const isOver = isSettled || attempt?.state === "answered";
    for (const child of children) this.#cancelLosers(child, nowMs, isOver);
  }

  #cancel(attempt: Attempt): void {
    const { node } = attempt;
    if (node !== FALLBACK_NODE) this.#context.health.released(node);
    this.#settle(attempt, "closed");
    this.#effects.push({ type: "cancel", attempt: attempt.attempt, node });
  }

  /** Moves an attempt on; its rows stop to count as waiting when it leaves that state. */
  #settle(attempt: Attempt, state: Attempt["state"]): void {
    const { node, share } = attempt;
    if (attempt.state === "waiting" && node !== FALLBACK_NODE) {
      this.#context.health.settled(node, share.rows);
    }
    attempt.state = state;
  }

  #close(): void {
    this.#isDone = true;
    for (const attempt of this.#attempts.values()) if (isLive(attempt)) this.#cancel(attempt);
  }

  #take(): CallEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}

/** Hedges of one share, and how far the wait between retries grows. */
const HEDGES_MAX = 1;
const RETRY_FACTOR_MAX = 10;

interface Groups {
  readonly table: RouteTable | undefined;
  readonly nodes: readonly { node: NodeId; experts: readonly number[] }[];
  readonly missing: readonly number[];
}
