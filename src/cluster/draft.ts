/**
 * A placement while it is being planned: owners per slot, room per node, load per layer and node.
 * It keeps the books; planner.ts decides.
 */
import { assert } from "@/assert.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type LoadSplit, splitLoad } from "./load_split.ts";
import { type ClusterNode, layerBytesOf, type NodeId, type Placement } from "./placement.ts";

export interface DraftOptions {
  readonly grid: ExpertGrid;
  /** All live nodes, whether or not they may own more. */
  readonly nodes: readonly ClusterNode[];
  /** Nodes that may be given experts. */
  readonly eligible: ReadonlySet<NodeId>;
  /** Tokens per second by slot. */
  readonly load: Float64Array;
  /** What each node is told to keep until the plan is in force: it takes room meanwhile. */
  readonly current: Placement | undefined;
  /** What each node has loaded. */
  readonly held: ReadonlyMap<NodeId, ReadonlySet<number>>;
}

/** One expert on one node (its number in `Draft.nodes`). */
export interface Copy {
  readonly slot: number;
  readonly node: number;
}

export class Draft {
  readonly grid: ExpertGrid;
  readonly nodes: readonly ClusterNode[];
  readonly load: Float64Array;
  /** Node numbers by slot, ascending. */
  readonly owners: number[][];
  readonly #eligible: readonly boolean[];
  readonly #held: readonly ReadonlySet<number>[];
  /** Slots owned now or in the current plan: both are in memory while the plan changes. */
  readonly #resident: readonly Set<number>[];
  readonly #wasOwner: readonly ReadonlySet<number>[];
  /** Bytes of an expert, by node and row of the grid. */
  readonly #layerBytes: readonly (readonly number[])[];
  /** Bytes of the residents, by node. */
  readonly #taken: number[];
  /** By layer, until an owner changes. */
  readonly #splits = new Map<number, LoadSplit>();

  constructor(options: DraftOptions) {
    const { grid, current } = options;
    this.grid = grid;
    this.load = options.load;
    assert(options.load.length === grid.size, "one load per slot");
    this.nodes = [...options.nodes].sort((a, b) => a.id < b.id ? -1 : 1);
    const numberOf = new Map(this.nodes.map((node, i) => [node.id, i]));
    this.#eligible = this.nodes.map(({ id }) => options.eligible.has(id));
    this.#held = this.nodes.map(({ id }) => options.held.get(id) ?? new Set());
    this.#layerBytes = this.nodes.map((node) => layerBytesOf(node, grid.layers.length));
    const before = this.nodes.map(() => new Set<number>());
    this.owners = Array.from({ length: grid.size }, (_, slot) => {
      const numbers = (current?.owners[slot] ?? []).flatMap((id) => numberOf.get(id) ?? []);
      for (const node of numbers) before[node]!.add(slot);
      return numbers.sort((a, b) => a - b);
    });
    this.#wasOwner = before;
    this.#resident = before.map((slots) => new Set(slots));
    this.#taken = before.map((slots, node) => {
      return [...slots].reduce((sum, slot) => sum + this.bytes({ node, slot }), 0);
    });
  }

  isEligible(node: number): boolean {
    return this.#eligible[node]!;
  }

  holds({ node, slot }: Copy): boolean {
    return this.#held[node]!.has(slot);
  }

  /** Bytes of a node's experts, by row of the grid. */
  layerBytes(node: number): readonly number[] {
    return this.#layerBytes[node]!;
  }

  /** What an expert takes on a node. */
  bytes({ node, slot }: Copy): number {
    return this.#layerBytes[node]![this.grid.rowOf(slot)]!;
  }

  /** Bytes that the node can still take while the plan changes. */
  room(node: number): number {
    return this.nodes[node]!.memoryBytes - this.#taken[node]!;
  }

  /** Bytes that the node can still take once this plan is in force and what it drops is gone. */
  roomAfter(node: number): number {
    const owned = this.owners.reduce(
      (sum, owners, slot) => owners.includes(node) ? sum + this.bytes({ node, slot }) : sum,
      0,
    );
    return this.nodes[node]!.memoryBytes - owned;
  }

  /** Whether the node may become an owner of the slot, room included. */
  canTake({ node, slot }: Copy): boolean {
    return this.mayOwn({ node, slot }) && !this.owns({ node, slot }) &&
      (this.#resident[node]!.has(slot) || this.room(node) >= this.bytes({ node, slot }));
  }

  owns({ node, slot }: Copy): boolean {
    return this.owners[slot]!.includes(node);
  }

  /** Whether the node is one of those that may be given the slot. */
  mayOwn({ node, slot }: Copy): boolean {
    return this.#eligible[node]! && (this.nodes[node]!.offers?.has(slot) ?? true);
  }

  give({ node, slot }: Copy): void {
    assert(this.canTake({ node, slot }), `${this.nodes[node]!.id} cannot take slot ${slot}`);
    this.owners[slot] = [...this.owners[slot]!, node].sort((a, b) => a - b);
    this.#splits.delete(this.grid.layerOf(slot));
    if (this.#resident[node]!.has(slot)) return;
    this.#resident[node]!.add(slot);
    this.#taken[node]! += this.bytes({ node, slot });
  }

  /** Takes a slot away; its memory is free at once only when the current plan had it not there. */
  take({ node, slot }: Copy): void {
    assert(this.owners[slot]!.includes(node), `${this.nodes[node]!.id} has no slot ${slot}`);
    this.owners[slot] = this.owners[slot]!.filter((owner) => owner !== node);
    this.#splits.delete(this.grid.layerOf(slot));
    if (this.#wasOwner[node]!.has(slot) || !this.#resident[node]!.delete(slot)) return;
    this.#taken[node]! -= this.bytes({ node, slot });
  }

  /** Load of one copy, if all bear the same. */
  share(slot: number): number {
    return this.load[slot]! / Math.max(1, this.owners[slot]!.length);
  }

  /** How the owners share a layer's load if calls go to whoever has worked least. */
  split(layer: number): LoadSplit {
    const known = this.#splits.get(layer);
    if (known) return known;
    const { experts } = this.grid;
    const first = this.grid.firstSlot(layer);
    const split = splitLoad({
      load: this.load.subarray(first, first + experts),
      owners: this.owners.slice(first, first + experts),
      speeds: this.nodes.map(({ speed }) => speed),
    });
    this.#splits.set(layer, split);
    return split;
  }

  /** Load of the copy that an owner has, by `split`. */
  part({ node, slot }: Copy): number {
    const { parts } = this.split(this.grid.layerOf(slot));
    return parts[this.grid.expertOf(slot)]![this.owners[slot]!.indexOf(node)] ?? 0;
  }

  /** Part of each second that each node works for one layer, if all copies bear the same. */
  busy(layer: number): number[] {
    const busy = this.nodes.map(() => 0);
    const first = this.grid.firstSlot(layer);
    for (let slot = first; slot < first + this.grid.experts; slot++) {
      for (const node of this.owners[slot]!) busy[node]! += this.share(slot);
    }
    return busy.map((load, node) => load / this.nodes[node]!.speed);
  }

  /** Copies that the current plan lacks, and those that it has too many. */
  changes(): { copies: Copy[]; drops: Copy[] } {
    const copies: Copy[] = [];
    const drops: Copy[] = [];
    this.owners.forEach((owners, slot) => {
      for (const node of owners) {
        if (!this.#wasOwner[node]!.has(slot)) copies.push({ slot, node });
      }
    });
    this.#wasOwner.forEach((slots, node) => {
      for (const slot of slots) if (!this.owners[slot]!.includes(node)) drops.push({ slot, node });
    });
    return { copies, drops };
  }
}
