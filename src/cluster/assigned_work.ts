/**
 * How much work calls gave to each node, layer by layer: what a front aims at when it chooses among
 * replicas, and what it shows as balance. Rows over the speed that the node had then, fading away;
 * counted anew with each plan, because what other owners did says nothing about these.
 */
import { assert } from "@/assert.ts";
import type { NodeId } from "./placement.ts";

export class AssignedWork {
  readonly #halfLifeMs: number;
  /** Seconds by layer and node. */
  readonly #layers = new Map<number, Map<NodeId, number>>();
  #epoch = 0;
  #fadedMs: number | undefined;

  constructor(options: { halfLifeMs: number }) {
    assert(options.halfLifeMs > 0, `half-life of ${options.halfLifeMs} ms`);
    this.#halfLifeMs = options.halfLifeMs;
  }

  /** The plan whose owners share the work from now on. */
  follow(epoch: number): void {
    if (epoch === this.#epoch) return;
    this.#epoch = epoch;
    this.#layers.clear();
  }

  /** A call of a layer goes to a node that needs so long for it. */
  add(layer: number, node: NodeId, seconds: number): void {
    let nodes = this.#layers.get(layer);
    if (!nodes) this.#layers.set(layer, nodes = new Map());
    nodes.set(node, (nodes.get(node) ?? 0) + seconds);
  }

  tick(nowMs: number): void {
    const kept = 2 ** (-Math.max(0, nowMs - (this.#fadedMs ?? nowMs)) / this.#halfLifeMs);
    this.#fadedMs = nowMs;
    for (const nodes of this.#layers.values()) {
      for (const [node, seconds] of nodes) nodes.set(node, seconds * kept);
    }
  }

  seconds(layer: number, node: NodeId): number {
    return this.#layers.get(layer)?.get(node) ?? 0;
  }
}
