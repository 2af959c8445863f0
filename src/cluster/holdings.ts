/**
 * A shard's side of the plan: which experts it holds, loads and drops, and which calls it may
 * serve. Synchronous: loading is an effect that the shell carries out. The planner's word is an
 * assignment that says everything, so lost, repeated and reordered ones do no harm.
 */
import { assert } from "@/assert.ts";
import type { RefusalReason } from "./control_frames.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import type { NodeId } from "./placement.ts";

/** What a node shall hold, and the epochs of calls that it serves. */
export interface Assignment {
  /** The planner's fencing token, and its count of assignments: later ones win. */
  readonly fence: number;
  readonly serial: number;
  readonly epochMin: number;
  readonly epochMax: number;
  readonly keep: ReadonlySet<number>;
}

/** What a node says about itself; sent with every heartbeat. */
export interface HeldReport {
  readonly node: NodeId;
  readonly incarnation: number;
  /** The assignment that it follows. */
  readonly fence: number;
  readonly serial: number;
  readonly epochMin: number;
  readonly epochMax: number;
  readonly held: ReadonlySet<number>;
  /** Experts of the assignment that could not be loaded, and why. */
  readonly failure: string | undefined;
}

/** Why a call is not served: it came from another plan, or for experts that are not here. */
export type HoldingRefusal = Extract<RefusalReason, "wrong_epoch" | "unknown_expert">;

/** What the shell has to do. Dropped experts are gone for new calls at once. */
export interface HoldingChange {
  readonly load: readonly number[];
  readonly drop: readonly number[];
}

export class Holdings {
  readonly #node: NodeId;
  readonly #incarnation: number;
  readonly #grid: ExpertGrid;
  readonly #capacity: number;
  readonly #sizeOf: (slot: number) => number;
  readonly #held: Set<number>;
  readonly #loading = new Set<number>();
  #assignment: Assignment = { fence: 0, serial: 0, epochMin: 0, epochMax: 0, keep: new Set() };
  #version = 0;
  #failure: string | undefined;

  constructor(args: {
    node: NodeId;
    incarnation: number;
    grid: ExpertGrid;
    /** Memory for experts, and what one takes: by default the memory is counted in experts. */
    capacity: number;
    sizeOf?: (slot: number) => number;
    held?: Iterable<number>;
  }) {
    this.#node = args.node;
    this.#incarnation = args.incarnation;
    this.#grid = args.grid;
    this.#capacity = args.capacity;
    this.#sizeOf = args.sizeOf ?? (() => 1);
    this.#held = new Set(args.held);
    assert(this.#sizeOfAll(this.#held) <= args.capacity, "more experts than fit");
  }

  /** Experts that calls can use. */
  get held(): ReadonlySet<number> {
    return this.#held;
  }

  /** Rises with everything that `report` says. */
  get version(): number {
    return this.#version;
  }

  /** Whether nothing is held, loaded or wanted. */
  get isEmpty(): boolean {
    return this.#held.size + this.#loading.size + this.#assignment.keep.size === 0;
  }

  /** Takes a newer assignment; an old one changes nothing. */
  assign(assignment: Assignment): HoldingChange {
    const { fence, serial } = this.#assignment;
    const isNewer = assignment.fence > fence ||
      (assignment.fence === fence && assignment.serial > serial);
    if (!isNewer) return { load: [], drop: [] };
    this.#version++;
    this.#assignment = assignment;
    this.#failure = undefined;
    const drop = [...this.#held].filter((slot) => !assignment.keep.has(slot));
    for (const slot of drop) this.#held.delete(slot);
    for (const slot of this.#loading) if (!assignment.keep.has(slot)) this.#loading.delete(slot);
    return { load: this.#startLoading(), drop };
  }

  /** Experts to load, as far as memory allows: a planner that asks for more is told so. */
  #startLoading(): number[] {
    const load: number[] = [];
    let taken = this.#sizeOfAll(this.#held) + this.#sizeOfAll(this.#loading);
    for (const slot of [...this.#assignment.keep].sort((a, b) => a - b)) {
      if (this.#held.has(slot) || this.#loading.has(slot)) continue;
      taken += this.#sizeOf(slot);
      if (taken > this.#capacity) {
        const count = this.#held.size + this.#loading.size;
        this.#failure = `No room for ${this.#assignment.keep.size} experts, ${count} fit`;
        break;
      }
      this.#loading.add(slot);
      load.push(slot);
    }
    return load;
  }

  #sizeOfAll(slots: Iterable<number>): number {
    let size = 0;
    for (const slot of slots) size += this.#sizeOf(slot);
    return size;
  }

  /** An expert is loaded. False when it is not wanted any more: the shell drops it again. */
  loaded(slot: number): boolean {
    if (!this.#loading.delete(slot)) return this.#held.has(slot);
    this.#version++;
    this.#held.add(slot);
    return true;
  }

  /** An expert could not be loaded; the report carries the reason, the planner finds another node. */
  loadFailed(slot: number, reason: string): void {
    this.#version++;
    this.#loading.delete(slot);
    this.#failure = `Cannot load ${this.#grid.describe(slot)}: ${reason}`;
  }

  /** Tries again what failed to load. */
  retryFailed(): HoldingChange {
    this.#version++;
    this.#failure = undefined;
    return { load: this.#startLoading(), drop: [] };
  }

  /** A new lease began: planners of an earlier store are forgotten with their fences. */
  rejoined(): void {
    this.#version++;
    this.#assignment = { ...this.#assignment, fence: 0, serial: 0 };
  }

  /** Why a call cannot be served; undefined when it can. */
  refusal(call: {
    epoch: number;
    layer: number;
    experts: Iterable<number>;
  }): HoldingRefusal | undefined {
    const { epochMin, epochMax } = this.#assignment;
    if (call.epoch < epochMin || call.epoch > epochMax) return "wrong_epoch";
    for (const expert of call.experts) {
      const isHeld = this.#grid.has(call.layer, expert) &&
        this.#held.has(this.#grid.slot(call.layer, expert));
      if (!isHeld) return "unknown_expert";
    }
    return undefined;
  }

  report(): HeldReport {
    const { fence, serial, epochMin, epochMax } = this.#assignment;
    return {
      node: this.#node,
      incarnation: this.#incarnation,
      fence,
      serial,
      epochMin,
      epochMax,
      held: new Set(this.#held),
      failure: this.#failure,
    };
  }
}
