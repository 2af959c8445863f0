/**
 * One layer's call while it runs: carries out what `LayerCall` decides. It cuts the rows into
 * frames, keeps the results by attempt and copies them where the sum wants them. Who is asked is
 * not decided here.
 */
import type { Clock } from "@/clock.ts";
import { type ExpertResult, type ReplyEncodingName, rowsPerCall } from "./call_frames.ts";
import type { CallChannel, CallOutcome, UnnumberedCall } from "./call_channel.ts";
import { type CallContext, type CallEffect, FALLBACK_NODE, LayerCall } from "./calls.ts";
import type { CallEnd, ClusterTelemetry, LayerNotes } from "./cluster_telemetry.ts";
import type { FallbackExperts } from "./fallback_experts.ts";
import type { NodeId } from "./placement.ts";
import type { RunningCalls } from "./running_calls.ts";
import { EncodedRows, type RowEncodingName } from "./row_encoding.ts";

/** What running calls need of the front. */
export interface CallSite {
  readonly clock: Clock;
  readonly context: CallContext;
  /** In which rows travel exactly to this model's experts. */
  readonly encoding: RowEncodingName;
  /** In which results travel: float32, unless others than exact ones are asked for. */
  readonly replyEncoding: ReplyEncodingName;
  channel(node: NodeId): CallChannel | undefined;
  /** The calls that run: they are told of lost nodes, and when their time has come. */
  readonly running: RunningCalls;
  /** Computes any expert from disk when nobody else does. */
  readonly fallback: FallbackExperts | undefined;
  readonly telemetry: ClusterTelemetry;
  /** One layer's routing, for the load figures. */
  routed(layer: number, expertIndex: Int32Array, choices: number): void;
}

/** One layer's routing on the host. */
export interface HostRouting {
  readonly layer: number;
  readonly step: number;
  readonly width: number;
  readonly choices: number;
  /** [R, H] */
  readonly hidden: Float32Array;
  /** [R, k] */
  readonly expertIndex: Int32Array;
}

/** Pairs of some experts, row by row, experts ascending inside a row. */
interface Portion {
  /** Row of the step for each row of the portion, and how many of its experts are meant. */
  readonly rowIndex: readonly number[];
  readonly choiceCounts: Uint16Array;
  readonly experts: Uint16Array;
  /** Pair number (row * choices + choice) of each. */
  readonly pairs: readonly number[];
}

/** What came of one attempt: one frame, or several when the rows do not fit into one. */
interface AttemptState {
  readonly node: NodeId;
  readonly epoch: number;
  readonly portions: readonly Portion[];
  readonly values: (Float32Array | undefined)[];
  readonly callIds: number[];
  channel: CallChannel | undefined;
  isOver: boolean;
  /** What the shard says of its own time. */
  queueMs: number;
  computeMs: number;
  /** Notes how a call to a node ended. */
  ended: ((end: CallEnd) => void) | undefined;
}

/** Carries out the effects of one `LayerCall`. */
export class RunningLayerCall {
  readonly #site: CallSite;
  readonly #routing: HostRouting;
  readonly #machine: LayerCall;
  readonly #attempts = new Map<number, AttemptState>();
  readonly #done = Promise.withResolvers<void>();
  #deadlineMs: number;
  readonly #notes: LayerNotes;
  readonly #rows: EncodedRows;
  #keepResult: (pair: number, result: Float32Array) => void = () => {};

  constructor(site: CallSite, routing: HostRouting) {
    this.#site = site;
    this.#routing = routing;
    const { step, expertIndex, hidden, width } = routing;
    this.#rows = new EncodedRows(site.encoding, { source: hidden, width });
    this.#notes = site.telemetry.layer({ layer: routing.layer, step, rows: expertIndex.length });
    const { context, clock } = site;
    this.#deadlineMs = clock.nowMs() + context.bounds.callMs;
    const rows = new Map<number, number>();
    for (const expert of routing.expertIndex) rows.set(expert, (rows.get(expert) ?? 0) + 1);
    const demand = [...rows].map(([expert, count]) => ({ expert, rows: count }));
    const { layer } = routing;
    this.#machine = new LayerCall({ context, layer, demand, deadlineMs: this.#deadlineMs });
  }

  /**
   * Hands every pair's result [width] to `keep` as soon as it is there, while others are waited for;
   * again when a slow node's answer takes the place of parts of it. Throws OperatingError when nobody
   * answers.
   */
  async run(keep: (pair: number, result: Float32Array) => void): Promise<void> {
    const { running, clock } = this.#site;
    this.#keepResult = keep;
    running.add(this);
    try {
      this.#act(this.#machine.start(clock.nowMs()));
      await this.#done.promise;
      this.#notes.ended(this.#machine.counts);
    } catch (error) {
      this.#notes.ended(this.#machine.counts, error);
      throw error;
    } finally {
      running.delete(this);
    }
  }

  #hand({ portions, values }: AttemptState): void {
    const { width } = this.#routing;
    portions.forEach(({ pairs }, i) => {
      const from = values[i]!;
      for (let row = 0; row < pairs.length; row++) {
        this.#keepResult(pairs[row]!, from.subarray(row * width, (row + 1) * width));
      }
    });
  }

  /** The connection to a node ended. */
  nodeLost(node: NodeId): void {
    if (!this.#machine.isDone) this.#act(this.#machine.nodeLost(this.#site.clock.nowMs(), node));
  }

  #act(effects: readonly CallEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "send":
          this.#send(effect);
          break;
        case "compute":
          this.#compute(effect);
          break;
        case "cancel":
          this.#cancel(effect.attempt);
          break;
        case "complete":
          this.#done.resolve();
          break;
        case "fail":
          this.#done.reject(effect.error);
      }
    }
    if (!this.#machine.isDone) this.#site.running.wakeAt(this.#machine.wakeMs);
  }

  /** When there is something to do without an answer; never, once it is done. */
  get wakeMs(): number {
    return this.#machine.isDone ? Infinity : this.#machine.wakeMs;
  }

  /** This process did not run for a while. */
  stalled(ms: number): void {
    this.#deadlineMs += ms;
    this.#machine.stalled(ms);
  }

  /** The time has come. */
  tick(): void {
    if (!this.#machine.isDone) this.#act(this.#machine.tick(this.#site.clock.nowMs()));
  }

  #send(effect: CallEffect & { type: "send" }): void {
    const { attempt, node, epoch, experts, reason } = effect;
    const channel = this.#site.channel(node);
    const state = this.#open(attempt, { node, epoch, experts, channel });
    const rows = state.portions.reduce((sum, { pairs }) => sum + pairs.length, 0);
    state.ended = this.#notes.sent(node, reason, rows);
    if (!channel) {
      state.ended({ outcome: "lost", reason: "not connected" });
      queueMicrotask(() => this.nodeLost(node));
      return;
    }
    state.portions.forEach((portion, i) => {
      const callId = channel.call(
        this.#callOf(portion, epoch),
        (outcome) => this.#answered(attempt, i, outcome),
      );
      state.callIds.push(callId);
    });
  }

  #callOf({ rowIndex, choiceCounts, experts }: Portion, epoch: number): UnnumberedCall {
    const { layer, step, width, hidden } = this.#routing;
    return {
      epoch,
      step,
      layer,
      width,
      encoding: this.#site.encoding,
      reply: "pairs",
      replyEncoding: this.#site.replyEncoding,
      timeLeftMs: this.#deadlineMs - this.#site.clock.nowMs(),
      choiceCounts,
      experts,
      weights: NO_WEIGHTS,
      source: hidden,
      rowIndex,
      encoded: this.#rows,
    };
  }

  #open(
    attempt: number,
    args: {
      node: NodeId;
      epoch: number;
      experts: readonly number[];
      channel: CallChannel | undefined;
    },
  ): AttemptState {
    const { node, epoch, experts, channel } = args;
    const { choices, width } = this.#routing;
    const rowsMax = channel
      ? rowsPerCall({
        choices,
        width,
        encoding: this.#site.encoding,
        reply: "pairs",
        replyEncoding: this.#site.replyEncoding,
        frameBytesMax: channel.connection.frameBytesMax,
      })
      : Infinity;
    const portions = portionsOf(this.#routing, new Set(experts), rowsMax);
    const values = portions.map(() => undefined);
    const state: AttemptState = {
      ...{ node, epoch, portions, values, callIds: [], channel, isOver: false },
      ...{ queueMs: 0, computeMs: 0, ended: undefined },
    };
    this.#attempts.set(attempt, state);
    return state;
  }

  #answered(attempt: number, portion: number, outcome: CallOutcome): void {
    const state = this.#attempts.get(attempt)!;
    if (state.isOver || this.#machine.isDone) return;
    const { node, epoch } = state;
    const nowMs = this.#site.clock.nowMs();
    if (outcome.type === "result") {
      const { queueMicros, computeMicros } = outcome.result;
      state.queueMs = Math.max(state.queueMs, queueMicros / 1000);
      state.computeMs += computeMicros / 1000;
      return this.#keep(attempt, portion, outcome.result);
    }
    state.isOver = true;
    const why = outcome.type === "refusal" ? outcome.refusal.reason : outcome.reason;
    state.ended?.({ outcome: outcome.type, reason: why });
    if (outcome.type === "lost" && outcome.reason === "closed") return this.nodeLost(node);
    const reason = outcome.type === "refusal" ? outcome.refusal.reason : "overloaded";
    this.#act(this.#machine.refuse(nowMs, { attempt, node, epoch, reason }));
  }

  #keep(attempt: number, portion: number, { values }: Pick<ExpertResult, "values">): void {
    const state = this.#attempts.get(attempt)!;
    state.values[portion] = values;
    if (state.values.includes(undefined)) return;
    state.isOver = true;
    const { node, epoch, queueMs, computeMs } = state;
    state.ended?.({ outcome: "result", queueMs, computeMs });
    const key = { attempt, node, epoch };
    const { isUsed, effects } = this.#machine.reply(this.#site.clock.nowMs(), key);
    if (isUsed) this.#hand(state);
    this.#act(effects);
  }

  #compute({ attempt, experts }: CallEffect & { type: "compute" }): void {
    const state = this.#open(attempt, {
      node: FALLBACK_NODE,
      epoch: 0,
      experts,
      channel: undefined,
    });
    const [portion] = state.portions;
    this.#computeHere(portion!).then(
      (values) => {
        if (!state.isOver && !this.#machine.isDone) this.#keep(attempt, 0, { values });
      },
      (error: unknown) => {
        if (!state.isOver) this.#fallbackFailed(attempt, error);
      },
    );
  }

  /** Without a disk nobody is left to ask: the call ends with what went wrong there. */
  #fallbackFailed(attempt: number, error: unknown): void {
    this.#attempts.get(attempt)!.isOver = true;
    this.#act(this.#machine.abort());
    this.#done.reject(error);
  }

  async #computeHere({ rowIndex, choiceCounts, experts }: Portion): Promise<Float32Array> {
    const { fallback } = this.#site;
    const { layer, hidden } = this.#routing;
    const rowOfPair = rowIndex.flatMap((row, i) => Array(choiceCounts[i]!).fill(row));
    return await fallback!.compute({ layer, rows: hidden, rowOfPair, expertOfPair: experts });
  }

  #cancel(attempt: number): void {
    const state = this.#attempts.get(attempt);
    if (!state) return;
    state.isOver = true;
    for (const callId of state.callIds) state.channel?.cancel(callId);
  }
}

const NO_WEIGHTS = new Float32Array();

/** The pairs whose expert is in `experts`, in portions of at most `rowsMax` rows. */
function portionsOf(
  { expertIndex, choices }: HostRouting,
  experts: ReadonlySet<number>,
  rowsMax: number,
): Portion[] {
  const rows: { row: number; pairs: number[] }[] = [];
  for (let row = 0; row * choices < expertIndex.length; row++) {
    const pairs: number[] = [];
    for (let pair = row * choices; pair < (row + 1) * choices; pair++) {
      if (experts.has(expertIndex[pair]!)) pairs.push(pair);
    }
    pairs.sort((a, b) => expertIndex[a]! - expertIndex[b]!);
    if (pairs.length > 0) rows.push({ row, pairs });
  }
  const portions: Portion[] = [];
  for (let first = 0; first < rows.length; first += rowsMax) {
    const part = rows.slice(first, first + rowsMax);
    const pairs = part.flatMap((entry) => entry.pairs);
    portions.push({
      rowIndex: part.map(({ row }) => row),
      choiceCounts: Uint16Array.from(part, (entry) => entry.pairs.length),
      experts: Uint16Array.from(pairs, (pair) => expertIndex[pair]!),
      pairs,
    });
  }
  return portions;
}
