/**
 * What a front notes of its expert calls: counts and times by node for `cluster status`, metrics,
 * and trace spans. It decides nothing; figures of plans and members are in cluster_status.ts.
 */
import type { Clock } from "@/clock.ts";
import { limits } from "@/limits.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import type { EndedSpan, Tracer } from "@/telemetry/trace.ts";
import type { LayerCall, SendReason } from "./calls.ts";
import type { NodeId } from "./placement.ts";

/** Calls of one node since the front started. */
export interface NodeCalls {
  readonly first: number;
  readonly retry: number;
  readonly hedge: number;
  readonly rows: number;
  readonly results: number;
  readonly refusals: number;
  readonly lost: number;
}

/** Percentiles of the last round trips of one node, in milliseconds. */
export interface RoundTrips {
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** All layers' calls since the front started. */
export interface CallTotals {
  readonly layers: number;
  readonly failures: number;
  readonly calls: number;
  readonly retries: number;
  readonly hedgedRows: number;
  readonly fallbacks: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface NodeNotes {
  /** The node's metrics. */
  readonly counted: Readonly<Record<SendReason, (amount: number) => void>>;
  readonly rowsCounted: (amount: number) => void;
  readonly resultsCounted: (amount: number) => void;
  readonly roundTripObserved: (seconds: number) => void;
  readonly queueCounted: (seconds: number) => void;
  readonly computeCounted: (seconds: number) => void;
  readonly calls: Mutable<NodeCalls>;
  /** The last round trips, in no order. */
  readonly roundTripsMs: number[];
  next: number;
}

/** A call to one node that is under way. */
interface OpenCall {
  readonly node: NodeId;
  readonly reason: SendReason;
  readonly rows: number;
  readonly startMs: number;
}

/** How a call ended. Times are the shard's own, in milliseconds. */
export type CallEnd =
  | { readonly outcome: "result"; readonly queueMs: number; readonly computeMs: number }
  | { readonly outcome: "refusal" | "lost"; readonly reason: string };

export interface ClusterTelemetryOptions {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly tracer?: Tracer | undefined;
}

export class ClusterTelemetry {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #tracer: Tracer | undefined;
  readonly #layerObserved: (seconds: number) => void;
  readonly #nodes = new Map<NodeId, NodeNotes>();
  readonly #totals: Mutable<CallTotals> = {
    layers: 0,
    failures: 0,
    calls: 0,
    retries: 0,
    hedgedRows: 0,
    fallbacks: 0,
  };

  constructor({ clock, metrics, tracer }: ClusterTelemetryOptions) {
    this.#clock = clock;
    this.#metrics = metrics;
    this.#tracer = tracer;
    this.#layerObserved = metrics.histogram("flotilla_cluster_layer_seconds");
  }

  get totals(): CallTotals {
    return this.#totals;
  }

  callsOf(node: NodeId): NodeCalls {
    return this.#nodes.get(node)?.calls ?? noCalls();
  }

  /** Undefined before the first result. */
  roundTripsOf(node: NodeId): RoundTrips | undefined {
    const samples = this.#nodes.get(node)?.roundTripsMs;
    if (!samples || samples.length === 0) return undefined;
    const sorted = samples.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!;
    return { p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) };
  }

  /** One layer's call begins. */
  layer(place: { layer: number; step: number; rows: number }): LayerNotes {
    return new LayerNotes(this, { ...place, clock: this.#clock, isTraced: !!this.#tracer });
  }

  sent({ node, reason, rows }: OpenCall): void {
    const notes = this.#notes(node);
    notes.calls[reason] += 1;
    notes.calls.rows += rows;
    notes.counted[reason](1);
    notes.rowsCounted(rows);
  }

  answered({ node }: OpenCall, end: CallEnd, elapsedMs: number): void {
    const notes = this.#notes(node);
    if (end.outcome !== "result") {
      notes.calls[end.outcome === "refusal" ? "refusals" : "lost"] += 1;
      const labels = { node, outcome: end.outcome };
      return this.#metrics.count("flotilla_cluster_answers_total", 1, labels);
    }
    notes.calls.results += 1;
    notes.roundTripsMs[notes.next] = elapsedMs;
    notes.next = (notes.next + 1) % limits.roundTripsKept;
    notes.resultsCounted(1);
    notes.roundTripObserved(elapsedMs / 1000);
    notes.queueCounted(end.queueMs / 1000);
    notes.computeCounted(end.computeMs / 1000);
  }

  ended(elapsedMs: number, counts: LayerCall["counts"], error: unknown): void {
    const [totals, metrics] = [this.#totals, this.#metrics];
    totals.layers += 1;
    totals.calls += counts.sent;
    totals.retries += counts.retries;
    totals.hedgedRows += counts.hedgedRows;
    totals.fallbacks += counts.fallbacks;
    if (error !== undefined) totals.failures += 1;
    this.#layerObserved(elapsedMs / 1000);
    if (error !== undefined) metrics.count("flotilla_cluster_layer_failures_total");
    if (counts.fallbacks > 0) metrics.count("flotilla_cluster_fallbacks_total", counts.fallbacks);
    const { hedgedRows } = counts;
    if (hedgedRows > 0) metrics.count("flotilla_cluster_hedged_rows_total", hedgedRows);
  }

  record(span: EndedSpan): void {
    this.#tracer?.record(span);
  }

  #notes(node: NodeId): NodeNotes {
    const known = this.#nodes.get(node);
    if (known) return known;
    const metrics = this.#metrics;
    const sent = (reason: SendReason) =>
      metrics.counter("flotilla_cluster_calls_total", { node, reason });
    const spent = (part: string) =>
      metrics.counter("flotilla_cluster_shard_seconds_total", { node, part });
    const notes: NodeNotes = {
      counted: { first: sent("first"), retry: sent("retry"), hedge: sent("hedge") },
      rowsCounted: metrics.counter("flotilla_cluster_rows_total", { node }),
      resultsCounted: metrics.counter("flotilla_cluster_answers_total", {
        node,
        outcome: "result",
      }),
      roundTripObserved: metrics.histogram("flotilla_cluster_round_trip_seconds", { node }),
      queueCounted: spent("queue"),
      computeCounted: spent("compute"),
      calls: noCalls(),
      roundTripsMs: [],
      next: 0,
    };
    this.#nodes.set(node, notes);
    return notes;
  }
}

function noCalls(): Mutable<NodeCalls> {
  return { first: 0, retry: 0, hedge: 0, rows: 0, results: 0, refusals: 0, lost: 0 };
}

/** One layer's call while it runs. */
export class LayerNotes {
  readonly #telemetry: ClusterTelemetry;
  readonly #place: { layer: number; step: number; rows: number; clock: Clock; isTraced: boolean };
  readonly #startMs: number;
  /** Made only when spans are wanted. */
  readonly #spans: EndedSpan[] = [];
  /** From clock milliseconds to those since the epoch. */
  readonly #epochOffsetMs: number;

  constructor(
    telemetry: ClusterTelemetry,
    place: { layer: number; step: number; rows: number; clock: Clock; isTraced: boolean },
  ) {
    this.#telemetry = telemetry;
    this.#place = place;
    this.#startMs = place.clock.nowMs();
    this.#epochOffsetMs = place.isTraced ? place.clock.epochMs() - this.#startMs : 0;
  }

  /** A call goes to a node; the returned function is told of its end, if it has one. */
  sent(node: NodeId, reason: SendReason, rows: number): (end: CallEnd) => void {
    const { clock, isTraced } = this.#place;
    const call = { node, reason, rows, startMs: clock.nowMs() };
    this.#telemetry.sent(call);
    return (end) => {
      const endMs = clock.nowMs();
      this.#telemetry.answered(call, end, endMs - call.startMs);
      if (isTraced) this.#spans.push(this.#callSpan(call, end, endMs));
    };
  }

  #callSpan({ node, reason, rows, startMs }: OpenCall, end: CallEnd, endMs: number): EndedSpan {
    return {
      name: "flotilla.cluster.call",
      startEpochMs: startMs + this.#epochOffsetMs,
      endEpochMs: endMs + this.#epochOffsetMs,
      attributes: {
        ...{ "flotilla.node": node, "flotilla.reason": reason, "flotilla.rows": rows },
        ...(end.outcome === "result" && {
          "flotilla.queue_ms": end.queueMs,
          "flotilla.compute_ms": end.computeMs,
        }),
      },
      ...(end.outcome !== "result" && { error: `${end.outcome}: ${end.reason}` }),
    };
  }

  ended(counts: LayerCall["counts"], error?: unknown): void {
    const { clock, isTraced, layer, step, rows } = this.#place;
    const endMs = clock.nowMs();
    this.#telemetry.ended(endMs - this.#startMs, counts, error);
    if (!isTraced) return;
    this.#telemetry.record({
      name: "flotilla.cluster.layer",
      startEpochMs: this.#startMs + this.#epochOffsetMs,
      endEpochMs: endMs + this.#epochOffsetMs,
      attributes: {
        ...{ "flotilla.layer": layer, "flotilla.step": step, "flotilla.rows": rows },
        ...{ "flotilla.retries": counts.retries, "flotilla.hedged_rows": counts.hedgedRows },
        "flotilla.fallbacks": counts.fallbacks,
      },
      children: this.#spans,
      ...(error !== undefined && { error: error instanceof Error ? error.message : `${error}` }),
    });
  }
}
