/**
 * A shard: holds the experts that a planner assigns, computes calls for them, and reports. One call
 * or one load at a time on the backend, calls first; what waits is bounded. It opens no ports and
 * decides no placement.
 */
import type { Clock } from "@/clock.ts";
import { limits } from "@/limits.ts";
import type { ExpertPairs } from "@/model/expert_bank.ts";
import type { ExpertPlace } from "@/model/expert_store.ts";
import { decodeAssignment, encodeReport } from "./assignment_text.ts";
import { decodeCall, draftResult, type ReceivedCall, type ResultDraft } from "./call_frames.ts";
import type { Connection, ReceivedFrame } from "./connection.ts";
import {
  decodeControl,
  encodeControl,
  type LoadReport,
  type RefusalReason,
} from "./control_frames.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import type { Assignment, HoldingChange, Holdings } from "./holdings.ts";
import { encodeMember } from "./member_text.ts";
import type { Member } from "./membership.ts";
import { bytesOfSlots, type ClusterNode } from "./placement.ts";
import { ProtocolError } from "./protocol_error.ts";
import { SpeedMeter } from "./speed_meter.ts";

/** What holds and computes experts; `ExpertBank` in the product. Calls never overlap. */
export interface ExpertComputer {
  readonly width: number;
  load(place: ExpertPlace): Promise<void>;
  drop(place: ExpertPlace): void;
  /** Writes results [P, H] to `out`, in the order of the pairs. */
  compute(pairs: ExpertPairs, out: Float32Array): Promise<void>;
  /** The same before it returns; false, and nothing done, when that cannot be. Absent: never. */
  computeHere?(pairs: ExpertPairs, out: Float32Array): boolean;
}

interface QueuedCall {
  readonly peer: Connection;
  readonly call: ReceivedCall;
  readonly receivedMs: number;
  isCancelled: boolean;
  /** Gives the frame's bytes back to the peer's window. */
  readonly consumed: () => void;
}

export interface ExpertServerOptions {
  readonly grid: ExpertGrid;
  readonly holdings: Holdings;
  readonly experts: ExpertComputer;
  readonly member: Member;
  readonly clock: Clock;
  /** Told why an expert could not be loaded or a call not be computed. */
  readonly failed?: (what: string, error: unknown) => void;
  /** Told what this node now says of itself: whether it drains, how fast it is. */
  readonly changed?: (member: Member) => void;
}

export class ExpertServer {
  readonly #options: ExpertServerOptions;
  readonly #peers = new Set<Connection>();
  readonly #calls: QueuedCall[] = [];
  #loads: number[] = [];
  #drops: number[] = [];
  #pendingPairs = 0;
  #member: Member;
  /** What the last report said: thousands of experts take a millisecond to write down. */
  #reported: { readonly version: number; readonly text: string } | undefined;
  #isWorking = false;
  #isClosed = false;
  readonly #speed: SpeedMeter;
  #busyMs = 0;
  #busySinceMs: number;
  readonly #reportTimer: ReturnType<typeof setInterval>;

  constructor(options: ExpertServerOptions) {
    this.#options = options;
    this.#member = options.member;
    this.#busySinceMs = options.clock.nowMs();
    this.#speed = new SpeedMeter(options.member.node?.speed ?? 1, this.#busySinceMs);
    this.#reportTimer = setInterval(() => {
      this.#reportToAll();
      this.announceSpeed();
    }, limits.nodeHeartbeatMs);
  }

  /** Experts that wait to be loaded. */
  get loadingCount(): number {
    return this.#loads.length;
  }

  get peerCount(): number {
    return this.#peers.size;
  }

  /** Takes a connection whose handshake succeeded; `ended` is called when it is over. */
  accept(peer: Connection, ended?: () => void): void {
    this.#peers.add(peer);
    peer.attach({
      frame: (frame) => this.#take(peer, frame),
      closed: () => {
        this.#lose(peer);
        ended?.();
      },
    });
    this.#introduce(peer);
    this.#report(peer);
  }

  /** Takes an assignment, if it is newer than the last one. */
  assign(assignment: Assignment): void {
    this.#change(this.#options.holdings.assign(assignment));
    this.#reportToAll();
  }

  /** A new lease began in the store: planners of an earlier store are forgotten. */
  rejoined(): void {
    this.#options.holdings.rejoined();
  }

  /** Says something else about this node, e.g. that it drains. */
  update(member: Member): void {
    this.#member = member;
    for (const peer of this.#peers) this.#introduce(peer);
  }

  /** Begins or ceases to give the experts away: planners are told, calls are served as before. */
  setDraining(draining: boolean): void {
    if (this.#member.node?.draining !== draining) this.#offer({ draining });
  }

  /** Tells planners the speed that is measured now, if it differs from the one that they know. */
  announceSpeed(): void {
    const speed = this.#speed.announcement(this.#options.clock.nowMs());
    if (speed !== undefined) this.#offer({ speed });
  }

  #offer(change: Partial<ClusterNode>): void {
    const { node } = this.#member;
    if (!node) return;
    this.update({ ...this.#member, node: { ...node, ...change } });
    this.#options.changed?.(this.#member);
  }

  /** Whether it can leave without loss: nobody is connected, or nothing is held and nothing waits. */
  get isVacant(): boolean {
    const { holdings } = this.#options;
    if (this.#peers.size === 0) return true;
    return holdings.isEmpty && this.#calls.length === 0 && !this.#isWorking;
  }

  /** Drains, and waits until it is vacant; false when that took longer than `timeoutMs`. */
  async drained(timeoutMs: number): Promise<boolean> {
    const { clock } = this.#options;
    const endMs = clock.nowMs() + timeoutMs;
    this.setDraining(true);
    while (!this.isVacant && clock.nowMs() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, limits.frontTickMs));
    }
    return this.isVacant;
  }

  /** This node's own figures, for heartbeats. */
  load(): LoadReport {
    const { clock, holdings, grid } = this.#options;
    const elapsedMs = Math.max(1, clock.nowMs() - this.#busySinceMs);
    const busy = Math.min(1, this.#busyMs / elapsedMs);
    [this.#busyMs, this.#busySinceMs] = [0, clock.nowMs()];
    const { node } = this.#member;
    return {
      pendingCalls: this.#calls.length,
      pendingRows: this.#pendingPairs,
      pairsPerSecond: this.#speed.speed(clock.nowMs()),
      busy,
      memoryUsedBytes: node ? bytesOfSlots(node, grid, holdings.held) : 0,
      memoryMaxBytes: node?.memoryBytes ?? 0,
      draining: node?.draining ?? false,
    };
  }

  /** Refuses what waits and closes all connections; what computes is waited for. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#reportTimer);
    for (const queued of this.#calls.splice(0)) this.#refuse(queued, "shutting_down");
    while (this.#isWorking) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const peer of [...this.#peers]) peer.close();
  }

  #lose(peer: Connection): void {
    this.#peers.delete(peer);
    for (const queued of this.#calls) if (queued.peer === peer) queued.isCancelled = true;
  }

  #introduce(peer: Connection): void {
    peer.send(encodeControl({ type: "member", text: encodeMember(this.#member, undefined) }));
  }

  /** A report that finds no room is not missed: the next one says all of it. */
  #report(peer: Connection): void {
    const { holdings } = this.#options;
    const { version } = holdings;
    if (this.#reported?.version !== version) {
      this.#reported = { version, text: encodeReport(holdings.report()) };
    }
    const { text } = this.#reported!;
    peer.send(encodeControl({ type: "report", text }));
  }

  #reportToAll(): void {
    for (const peer of this.#peers) this.#report(peer);
  }

  #take(peer: Connection, frame: ReceivedFrame): void | Promise<void> {
    if (frame.header.type === "call") return this.#queue(peer, frame);
    const message = decodeControl(frame);
    if (message.type === "cancel") this.#cancel(peer, message.callId);
    else if (message.type === "assign") this.#assign(message.text);
    else if (message.type === "drain") this.setDraining(message.draining);
    else throw new ProtocolError("type", `a ${message.type} frame for a shard`);
  }

  #queue(peer: Connection, frame: ReceivedFrame): Promise<void> {
    const call = decodeCall(frame, peer.frameBytesMax);
    const { promise, resolve } = Promise.withResolvers<void>();
    const { receivedMs } = frame;
    const queued = { peer, call, receivedMs, isCancelled: false, consumed: resolve };
    const pairs = call.experts.length;
    const reason = this.#refusalOf(call) ??
      (this.#pendingPairs + pairs > limits.shardQueuePairsMax ? "overloaded" : undefined);
    if (reason) this.#refuse(queued, reason);
    else {
      this.#pendingPairs += pairs;
      this.#calls.push(queued);
      this.#work();
    }
    return promise;
  }

  #refusalOf(call: ReceivedCall): RefusalReason | undefined {
    const { holdings, grid, experts } = this.#options;
    if (this.#isClosed) return "shutting_down";
    const isOurs = call.width === experts.width && call.reply === "pairs" &&
      grid.layers.includes(call.layer);
    return isOurs ? holdings.refusal(call) : "bad_call";
  }

  #refuse({ peer, call, consumed }: QueuedCall, reason: RefusalReason): void {
    const { epochMax } = this.#options.holdings.report();
    const retryAfterMs = reason === "overloaded" ? limits.layerRetryMs : 0;
    const refusal = { callId: call.callId, reason, epoch: epochMax, retryAfterMs, message: "" };
    peer.send(encodeControl({ type: "refusal", refusal }));
    consumed();
  }

  #cancel(peer: Connection, callId: number): void {
    for (const queued of this.#calls) {
      if (queued.peer === peer && queued.call.callId === callId) queued.isCancelled = true;
    }
  }

  #assign(text: string): void {
    try {
      this.assign(decodeAssignment(text, this.#options.grid));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
      throw new ProtocolError("body", error.message);
    }
  }

  #change({ load, drop }: HoldingChange): void {
    const dropped = new Set(drop);
    this.#loads = [...this.#loads.filter((slot) => !dropped.has(slot)), ...load];
    this.#drops.push(...drop);
    this.#work();
  }

  /**
   * Works until nothing waits. Never more than one runs. The last look at the queues and the end of
   * `#isWorking` are one synchronous piece: with a microtask between them, what arrives there would
   * wait for the next arrival.
   */
  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (let job = this.#next(); job; job = this.#next()) {
      const pending = job();
      // What is done already is answered in the turn in which it came.
      if (pending) await pending;
    }
    this.#isWorking = false;
  }

  /** What to do next, calls first; undefined when nothing waits. No job fails. */
  #next(): (() => Promise<void> | void) | undefined {
    const queued = this.#calls.shift();
    if (queued) return () => this.#serve(queued);
    if (this.#isClosed) return undefined;
    const dropped = this.#drops.shift();
    if (dropped !== undefined) return () => this.#dropExpert(dropped);
    const slot = this.#loads.shift();
    return slot === undefined ? undefined : () => this.#loadExpert(slot);
  }

  #dropExpert(slot: number): void {
    const { holdings, experts } = this.#options;
    // It may have been assigned again meanwhile.
    if (!holdings.held.has(slot)) experts.drop(this.#placeOf(slot));
  }

  #placeOf(slot: number): ExpertPlace {
    const { grid } = this.#options;
    return { layer: grid.layerOf(slot), expert: grid.expertOf(slot) };
  }

  async #loadExpert(slot: number): Promise<void> {
    const { holdings, experts, failed } = this.#options;
    try {
      await experts.load(this.#placeOf(slot));
      if (!holdings.loaded(slot)) experts.drop(this.#placeOf(slot));
    } catch (error) {
      failed?.(`cannot load ${this.#options.grid.describe(slot)}`, error);
      holdings.loadFailed(slot, error instanceof Error ? error.message : String(error));
    }
    if (this.#loads.length === 0) this.#reportToAll();
  }

  #serve(queued: QueuedCall): Promise<void> | void {
    const { call, receivedMs, consumed } = queued;
    this.#pendingPairs -= call.experts.length;
    const { clock, experts } = this.#options;
    const startMs = clock.nowMs();
    if (queued.isCancelled) return consumed();
    if (startMs - receivedMs > call.timeLeftMs) return this.#refuse(queued, "deadline_passed");
    // Between its arrival and its turn an expert may have been dropped.
    const reason = this.#refusalOf(call);
    if (reason) return this.#refuse(queued, reason);
    const draft = draftResult({
      ...call,
      rowCount: call.choiceCounts.length,
      pairCount: call.experts.length,
    });
    const pairs: ExpertPairs = {
      layer: call.layer,
      rows: call.rows,
      rowOfPair: rowOfPairs(call.choiceCounts, call.experts.length),
      expertOfPair: call.experts,
    };
    const answer = () => this.#answer(queued, { draft, startMs });
    const fail = (error: unknown) => this.#failCall(queued, error);
    try {
      if (!experts.computeHere?.(pairs, draft.values)) {
        return experts.compute(pairs, draft.values).then(answer).catch(fail);
      }
      answer();
    } catch (error) {
      fail(error);
    }
  }

  #answer(queued: QueuedCall, done: { draft: ResultDraft; startMs: number }): void {
    const { call, peer, receivedMs, consumed } = queued;
    const { draft, startMs } = done;
    const nowMs = this.#options.clock.nowMs();
    const computeMs = nowMs - startMs;
    const queueMicros = 1000 * (startMs - receivedMs);
    const frame = draft.finish({ queueMicros, computeMicros: 1000 * computeMs });
    const sent = peer.send(frame);
    this.#busyMs += computeMs;
    const experts = new Set(call.experts).size;
    this.#speed.add({ pairs: call.experts.length, experts, computeMs }, nowMs);
    if (sent === "full") this.#refuse(queued, "overloaded");
    else consumed();
  }

  #failCall(queued: QueuedCall, error: unknown): void {
    this.#options.failed?.(`cannot compute a call of layer ${queued.call.layer}`, error);
    this.#refuse(queued, "failed");
  }
}

/** Row number of each pair. */
function rowOfPairs(choiceCounts: Uint16Array, pairs: number): Uint32Array {
  const rows = new Uint32Array(pairs);
  let pair = 0;
  for (let row = 0; row < choiceCounts.length; row++) {
    const end = pair + choiceCounts[row]!;
    rows.fill(row, pair, end);
    pair = end;
  }
  return rows;
}
