/**
 * What a front knows of the nodes it calls: connection, silence, latency, waiting work, and a
 * circuit breaker each. Synchronous; it decides nothing about a call, calls.ts asks it.
 */
import { assert } from "@/assert.ts";
import type { ClusterBounds } from "./bounds.ts";
import type { NodeId } from "./placement.ts";

export const circuitStates = ["closed", "open", "probing"] as const;
export type CircuitState = typeof circuitStates[number];

interface NodeState {
  isConnected: boolean;
  heardMs: number;
  /** Rows sent and not answered. */
  waitingRows: number;
  speed: number;
  failures: number;
  circuit: CircuitState;
  /** When an open circuit lets one call through, and how long it stays open next time. */
  probeMs: number;
  openMs: number;
  readonly latencies: Map<number, LatencyWindow>;
}

/** The last latencies of calls of one size. */
class LatencyWindow {
  readonly #samples: Float64Array;
  #count = 0;
  #p95: number | undefined;

  constructor(size: number) {
    this.#samples = new Float64Array(size);
  }

  add(latencyMs: number): void {
    const size = this.#samples.length;
    this.#samples[this.#count % size] = latencyMs;
    this.#count += 1;
    // Sorting is most of the cost of a call's bookkeeping: a full window is not sorted each time.
    if (this.#count <= size || this.#count % P95_EVERY === 0) this.#p95 = undefined;
  }

  p95(samplesMin: number): number | undefined {
    const count = Math.min(this.#count, this.#samples.length);
    if (count < samplesMin) return undefined;
    return this.#p95 ??= this.#samples.slice(0, count).sort()[Math.ceil(count * 0.95) - 1]!;
  }
}

/** Samples after which a full window's percentile is computed anew. */
const P95_EVERY = 8;

/** Calls of similar size share a window: powers of two. */
function sizeClass(rows: number): number {
  return Math.ceil(Math.log2(Math.max(1, rows)));
}

export class NodeHealth {
  readonly #bounds: ClusterBounds;
  readonly #nodes = new Map<NodeId, NodeState>();

  constructor(bounds: ClusterBounds) {
    this.#bounds = bounds;
  }

  /** A connection stands. It also closes the circuit: the process may be a new one. */
  connected(node: NodeId, args: { nowMs: number; speed: number }): void {
    const state = this.#state(node);
    state.isConnected = true;
    state.heardMs = args.nowMs;
    state.speed = args.speed;
    state.failures = 0;
    state.circuit = "closed";
    state.openMs = this.#bounds.circuitOpenMs;
  }

  /** Its speed was measured anew. */
  measured(node: NodeId, speed: number): void {
    assert(speed > 0, `speed ${speed} of node ${node}`);
    this.#state(node).speed = speed;
  }

  lost(node: NodeId): void {
    this.#state(node).isConnected = false;
  }

  /** Any frame arrived, a heartbeat too. */
  heard(node: NodeId, nowMs: number): void {
    const state = this.#state(node);
    state.heardMs = Math.max(state.heardMs, nowMs);
  }

  sent(node: NodeId, rows: number): void {
    const state = this.#state(node);
    state.waitingRows += rows;
    if (state.circuit === "open") state.circuit = "probing";
  }

  /** A call was answered. */
  answered(node: NodeId, args: { nowMs: number; latencyMs: number; rows: number }): void {
    const state = this.#state(node);
    this.heard(node, args.nowMs);
    state.failures = 0;
    state.circuit = "closed";
    state.openMs = this.#bounds.circuitOpenMs;
    const size = sizeClass(args.rows);
    let window = state.latencies.get(size);
    if (!window) {
      state.latencies.set(size, window = new LatencyWindow(this.#bounds.latencySamples));
    }
    window.add(args.latencyMs);
  }

  /** A call was refused for a reason that says nothing bad about the node: it lives. */
  refused(node: NodeId, nowMs: number): void {
    const state = this.#state(node);
    this.heard(node, nowMs);
    state.failures = 0;
    state.circuit = "closed";
  }

  /** A call was cancelled: a probe has shown nothing. */
  released(node: NodeId): void {
    const state = this.#state(node);
    if (state.circuit === "probing") state.circuit = "open";
  }

  /** A call failed, or was slower than its hedge. */
  failed(node: NodeId, nowMs: number): void {
    const state = this.#state(node);
    state.failures += 1;
    const isTolerated = state.circuit === "closed" &&
      state.failures < this.#bounds.circuitFailures;
    if (!isTolerated) this.#open(state, nowMs);
  }

  /** A call sent at `sentMs` got no answer in time. Without a heartbeat since, the node is stuck. */
  silent(node: NodeId, args: { sentMs: number; nowMs: number }): void {
    const state = this.#state(node);
    if (state.heardMs > args.sentMs) this.failed(node, args.nowMs);
    else this.#open(state, args.nowMs);
  }

  #open(state: NodeState, nowMs: number): void {
    if (state.circuit === "open") return;
    state.circuit = "open";
    state.probeMs = nowMs + state.openMs;
    state.openMs = Math.min(2 * state.openMs, this.#bounds.circuitOpenMsMax);
  }

  /** Rows of a call are not waited for any more, whatever came of it. */
  settled(node: NodeId, rows: number): void {
    const state = this.#state(node);
    state.waitingRows = Math.max(0, state.waitingRows - rows);
  }

  isConnected(node: NodeId): boolean {
    return this.#nodes.get(node)?.isConnected ?? false;
  }

  /** Whether new calls should go there: connected, not silent, circuit closed or due for a probe. */
  isGood(node: NodeId, nowMs: number): boolean {
    const state = this.#nodes.get(node);
    if (!state?.isConnected || nowMs - state.heardMs > this.#bounds.nodeSilenceMs) return false;
    return state.circuit === "closed" || (state.circuit === "open" && nowMs >= state.probeMs);
  }

  circuit(node: NodeId): CircuitState {
    return this.#nodes.get(node)?.circuit ?? "closed";
  }

  /** 95th percentile of calls of that size; undefined while there are few. */
  p95Ms(node: NodeId, rows: number): number | undefined {
    return this.#nodes.get(node)?.latencies.get(sizeClass(rows))
      ?.p95(this.#bounds.latencySamplesMin);
  }

  busySeconds(node: NodeId): number {
    const state = this.#nodes.get(node);
    return state ? state.waitingRows / state.speed : 0;
  }

  speed(node: NodeId): number {
    return this.#nodes.get(node)?.speed ?? 1;
  }

  waitingRows(node: NodeId): number {
    return this.#nodes.get(node)?.waitingRows ?? 0;
  }

  #state(node: NodeId): NodeState {
    let state = this.#nodes.get(node);
    if (!state) {
      state = {
        isConnected: false,
        heardMs: -Infinity,
        waitingRows: 0,
        speed: 1,
        failures: 0,
        circuit: "closed",
        probeMs: 0,
        openMs: this.#bounds.circuitOpenMs,
        latencies: new Map(),
      };
      this.#nodes.set(node, state);
    }
    return state;
  }
}
