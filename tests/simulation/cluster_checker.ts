/**
 * Watches a simulated cluster from outside, with its own small model of what must hold. It shares no
 * code with what it checks.
 */
import assert from "node:assert/strict";
import type { CallPart } from "@/cluster/call_shares.ts";
import type { Assignment } from "@/cluster/holdings.ts";
import type { PlanProposal } from "@/cluster/membership.ts";
import type { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { Placement } from "@/cluster/placement.ts";
import { combine, computeExperts, type MockCall, type PairValue } from "./mock_experts.ts";

/** For how long after a crash the cluster may act on what the crashed node held. */
const CRASH_MEMORY_MS = 1500;

export class ClusterChecker {
  readonly #grid: ExpertGrid;
  readonly #memory: ReadonlyMap<string, number>;
  /** Bytes of an expert, by slot. */
  readonly #sizes: readonly number[];
  readonly #nowMs: () => number;
  /** What each running node has in memory, and what crashed ones had, with the time. */
  readonly #held = new Map<string, Set<number>>();
  readonly #crashed: { node: string; slots: ReadonlySet<number>; atMs: number }[] = [];
  #epoch = 0;
  /** Owners in the newest plan and the one before. */
  #plans: readonly Placement[] = [];
  /** Times of completed calls. */
  readonly durationsMs: number[] = [];
  readonly counts = {
    completed: 0,
    failed: 0,
    plans: 0,
    drops: 0,
    hedged: 0,
    retries: 0,
    fallbacks: 0,
  };
  readonly failures: { atMs: number; startedMs: number; message: string }[] = [];

  constructor(args: {
    grid: ExpertGrid;
    /** Bytes of each node. */
    memory: ReadonlyMap<string, number>;
    sizes: readonly number[];
    nowMs: () => number;
  }) {
    this.#grid = args.grid;
    this.#memory = args.memory;
    this.#sizes = args.sizes;
    this.#nowMs = args.nowMs;
  }

  /** Every (row, expert) once, none besides, and bits as on one machine. */
  completed(
    call: MockCall,
    used: {
      parts: readonly CallPart[];
      values: readonly PairValue[];
      startedMs: number;
    },
  ): void {
    const seen = used.values.map(({ row, expert }) => `${row} ${expert}`);
    const expected = call.choices.flatMap((experts, row) =>
      experts.map((expert) => `${row} ${expert}`)
    );
    assert.deepEqual(seen.toSorted(), expected.toSorted(), "a (row, expert) is not combined once");
    const firsts = used.parts.map(({ experts }) => experts[0]!);
    assert.deepEqual(firsts, firsts.toSorted((a, b) => a - b), "parts depend on arrival");
    const all = Array.from({ length: this.#grid.experts }, (_, expert) => expert);
    assert.deepEqual(
      combine(call, used.values),
      combine(call, computeExperts(call, all)),
      "the result differs from that of one process",
    );
    this.counts.completed += 1;
    this.durationsMs.push(this.#nowMs() - used.startedMs);
  }

  failed(message: string, startedMs: number): void {
    this.counts.failed += 1;
    this.failures.push({ atMs: this.#nowMs(), startedMs, message });
  }

  /** A plan was accepted by the store. */
  published({ placement }: PlanProposal): void {
    assert.ok(placement.epoch > this.#epoch, `epoch ${placement.epoch} after ${this.#epoch}`);
    this.#epoch = placement.epoch;
    this.#plans = [placement, ...this.#plans.slice(0, 1)];
    this.counts.plans += 1;
    assert.equal(placement.owners.length, this.#grid.size);
    const owned = new Map<string, number[]>();
    for (const [slot, owners] of placement.owners.entries()) {
      assert.equal(new Set(owners).size, owners.length, "two copies on one node");
      for (const node of owners) owned.set(node, [...owned.get(node) ?? [], slot]);
    }
    for (const [node, slots] of owned) this.#checkRoom(node, slots, "is to hold");
  }

  assigned(node: string, { keep }: Assignment): void {
    this.#checkRoom(node, keep, "shall keep");
  }

  #checkRoom(node: string, slots: Iterable<number>, what: string): void {
    const bytes = [...slots].reduce((sum, slot) => sum + this.#sizes[slot]!, 0);
    const most = this.#memory.get(node)!;
    assert.ok(bytes <= most, `${node} ${what} ${bytes} bytes of at most ${most}`);
  }

  started(node: string): void {
    this.#held.set(node, new Set());
  }

  crashed(node: string): void {
    const slots = this.#held.get(node);
    if (slots) this.#crashed.push({ node, slots, atMs: this.#nowMs() });
    this.#held.delete(node);
  }

  loaded(node: string, slot: number): void {
    const held = this.#held.get(node)!;
    held.add(slot);
    this.#checkRoom(node, held, "has loaded");
  }

  /** No owner drops the last copy, but when another one has just died. */
  dropped(node: string, slot: number): void {
    this.#held.get(node)!.delete(slot);
    this.counts.drops += 1;
    if (!this.#plans.some(({ owners }) => owners[slot]!.includes(node))) return;
    const isHeld = [...this.#held.values()].some((slots) => slots.has(slot));
    const hasDied = this.#crashed.some(({ slots, atMs }) =>
      slots.has(slot) && this.#nowMs() - atMs < CRASH_MEMORY_MS
    );
    assert.ok(isHeld || hasDied, `${node} drops the last copy of ${this.#grid.describe(slot)}`);
  }

  /** Hedged rows stay a share of all rows. */
  hedged(args: { rows: number; sentRows: number; share: number; saved: number }): void {
    const most = args.sentRows * args.share + args.saved;
    assert.ok(args.rows <= most + 1e-9, `${args.rows} rows hedged, ${most} allowed`);
  }
}
