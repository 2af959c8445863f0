/**
 * Experts that this process holds one by one, and what they compute: the same kernels as
 * `LocalExperts`, one unweighted row per (row, expert). A row's result depends on that row alone, so
 * it has the same bits in whatever company it is computed. Not reentrant: callers take turns.
 */
import { assert } from "@/assert.ts";
import type { Backend } from "@/kernels/backend.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import type { ExpertPlace, ExpertStore, ExpertWeights } from "./expert_store.ts";

/** P pairs of (row, expert) of one layer. */
export interface ExpertPairs {
  readonly layer: number;
  /** [R, H] */
  readonly rows: Float32Array;
  /** Row and expert of each pair [P]; every expert is held. */
  readonly rowOfPair: ArrayLike<number>;
  readonly expertOfPair: ArrayLike<number>;
}

/** Pairs that take so little time that whoever asks may be held up. */
const SHORT_PAIRS_MAX = 16;
/** Pairs computed at a time: bounds the scratch memory. */
const PAIRS_AT_ONCE = 1024;
/** Apart by a cache line, as kernels want their operands. */
const START_BYTES = 64;

export class ExpertBank {
  readonly #backend: Backend;
  readonly #store: ExpertStore;
  readonly #held = new Map<number, ExpertWeights>();
  readonly #mayHoldUp: boolean;
  #scratch: Scratch | undefined;

  /** `mayHoldUp`: this thread has nothing better to do than to compute a few pairs itself. */
  constructor(backend: Backend, store: ExpertStore, options: { mayHoldUp?: boolean } = {}) {
    this.#backend = backend;
    this.#store = store;
    this.#mayHoldUp = options.mayHoldUp ?? false;
  }

  /** Width of rows and results. */
  get width(): number {
    return this.#store.config.decoder.hiddenWidth;
  }

  has(place: ExpertPlace): boolean {
    return this.#held.has(keyOf(place));
  }

  get heldCount(): number {
    return this.#held.size;
  }

  async load(place: ExpertPlace): Promise<void> {
    const key = keyOf(place);
    if (this.#held.has(key)) return;
    this.#held.set(key, await this.#store.load(this.#backend, place));
  }

  drop(place: ExpertPlace): void {
    const weights = this.#held.get(keyOf(place));
    if (!weights) return;
    this.#held.delete(keyOf(place));
    for (const matrix of [weights.gate, weights.up, weights.down]) this.#backend.free(matrix);
  }

  /** Writes results [P, H] to `out` in the order of the pairs. */
  async compute(pairs: ExpertPairs, out: Float32Array): Promise<void> {
    const order = orderOf(pairs.expertOfPair);
    for (let first = 0; first < order.length; first += PAIRS_AT_ONCE) {
      const part = order.slice(first, first + PAIRS_AT_ONCE);
      const down = this.#record(pairs, part);
      await this.#backend.flush({ isShort: this.#mayHoldUp && part.length <= SHORT_PAIRS_MAX });
      this.#place(await this.#backend.read(down) as Float32Array, { order: part, out });
    }
  }

  /**
   * As `compute`, but done when it returns: few pairs, computed by the calling thread. Says false,
   * and does nothing, when that cannot be or should not.
   */
  computeHere(pairs: ExpertPairs, out: Float32Array): boolean {
    const isShort = this.#mayHoldUp && pairs.expertOfPair.length <= SHORT_PAIRS_MAX;
    if (!isShort || !this.#backend.isHere) return false;
    const order = orderOf(pairs.expertOfPair);
    const down = this.#record(pairs, order);
    this.#place(this.#backend.viewHere!(down) as Float32Array, { order, out });
    return true;
  }

  /** Results stand in `order`; `out` is in the order of the pairs. */
  #place(values: Float32Array, to: { order: readonly number[]; out: Float32Array }): void {
    const { order, out } = to;
    const { width } = this;
    if (order.length * width === out.length && order.every((pair, place) => pair === place)) {
      return out.set(values);
    }
    order.forEach((pair, place) => {
      out.set(values.subarray(place * width, (place + 1) * width), pair * width);
    });
  }

  /** `order`: pairs grouped by expert. The tensor [P, H] of results in that order. */
  #record(pairs: ExpertPairs, order: readonly number[]): Tensor {
    const { layer, rows, rowOfPair, expertOfPair } = pairs;
    const { width } = this;
    const groups: { expert: number; first: number; count: number }[] = [];
    order.forEach((pair, place) => {
      const expert = expertOfPair[pair]!;
      const group = groups.at(-1);
      if (group?.expert === expert) group.count += 1;
      else groups.push({ expert, first: place, count: 1 });
    });
    const scratch = this.#scratchFor(order.length, groups.length);
    // A single row is there once for all its experts.
    const isOneRow = rows.length === width && groups.length === order.length;
    if (isOneRow) this.#backend.write(sliceRows(scratch.input, 0, 1), rows);
    else {
      const input = new Float32Array(order.length * width);
      order.forEach((pair, place) => {
        const row = rowOfPair[pair]!;
        input.set(rows.subarray(row * width, (row + 1) * width), place * width);
      });
      this.#backend.write(sliceRows(scratch.input, 0, order.length), input);
    }
    const [gate, up, down] = [scratch.gate, scratch.up, scratch.down]
      .map((tensor) => sliceRows(tensor, 0, order.length)) as [Tensor, Tensor, Tensor];
    const { ops } = this.#backend;
    const products = groups.map(({ expert, first, count }, index) => {
      const weights = this.#held.get(keyOf({ layer, expert }));
      assert(weights, `expert ${expert} of layer ${layer} is not held`);
      const expertStart = scratch.start(this.#backend, index, count);
      const groupedPair = { ...scratch.place, shape: [count] };
      const slice = (tensor: Tensor) => sliceRows(tensor, first, count);
      return { weights, slice, grouping: { expertStart, groupedPair } };
    });
    for (const { weights, slice, grouping } of products) {
      const from = isOneRow ? sliceRows(scratch.input, 0, 1) : slice(scratch.input);
      ops.expertMatmul({ input: from, weight: weights.gate, ...grouping, out: slice(gate) });
      ops.expertMatmul({ input: from, weight: weights.up, ...grouping, out: slice(up) });
    }
    ops.swiglu({ gate, up, out: gate });
    for (const { weights, slice, grouping } of products) {
      const [from, to] = [slice(gate), slice(down)];
      ops.expertMatmul({ input: from, weight: weights.down, ...grouping, out: to });
    }
    return down;
  }

  #scratchFor(pairs: number, groups: number): Scratch {
    const held = this.#scratch;
    if (held && held.pairs >= pairs && held.groups >= groups) return held;
    held?.free(this.#backend);
    const { experts, intermediateWidth } = this.#store.moe;
    assert(groups <= experts, `${groups} of ${experts} experts`);
    const room = Math.min(PAIRS_AT_ONCE, Math.max(64, 2 * pairs));
    const widths = { hidden: this.width, intermediate: intermediateWidth };
    return this.#scratch = new Scratch(this.#backend, { pairs: room, groups: experts, widths });
  }

  /** Frees everything; the backend stays open. */
  close(): void {
    for (const weights of this.#held.values()) {
      for (const matrix of [weights.gate, weights.up, weights.down]) this.#backend.free(matrix);
    }
    this.#held.clear();
    this.#scratch?.free(this.#backend);
    this.#scratch = undefined;
    this.#store.close();
  }
}

function keyOf({ layer, expert }: ExpertPlace): number {
  return layer * EXPERTS_MAX + expert;
}

/** Expert numbers travel in 16 bits. */
const EXPERTS_MAX = 65_536;

/** Pairs grouped by expert. */
function orderOf(expertOfPair: ArrayLike<number>): number[] {
  return Array.from({ length: expertOfPair.length }, (_, pair) => pair)
    .sort((a, b) => expertOfPair[a]! - expertOfPair[b]! || a - b);
}

/** Tensors of one computation, kept and only ever replaced by larger ones. */
class Scratch {
  readonly pairs: number;
  readonly groups: number;
  readonly input: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  readonly down: Tensor;
  /** 0, 1, 2, …: every group uses its rows in order. */
  readonly place: Tensor;
  readonly #starts: Tensor;
  /** What stands at the start of each group. */
  readonly #counts: Int32Array;

  constructor(
    backend: Backend,
    size: {
      pairs: number;
      groups: number;
      widths: { hidden: number; intermediate: number };
    },
  ) {
    const { pairs, groups, widths: { hidden, intermediate } } = size;
    this.pairs = pairs;
    this.groups = groups;
    this.input = backend.allocate("f32", [pairs, hidden]);
    this.gate = backend.allocate("f32", [pairs, intermediate]);
    this.up = backend.allocate("f32", [pairs, intermediate]);
    this.down = backend.allocate("f32", [pairs, hidden]);
    this.place = backend.allocate("i32", [pairs]);
    backend.write(this.place, Int32Array.from({ length: pairs }, (_, i) => i));
    this.#starts = backend.allocate("i32", [groups, START_BYTES / 4]);
    this.#counts = new Int32Array(groups);
  }

  /** [0, count]: where the one expert of a group starts and ends. */
  start(backend: Backend, group: number, count: number): Tensor {
    const byteOffset = this.#starts.byteOffset + group * START_BYTES;
    const tensor = { ...this.#starts, shape: [2], byteOffset };
    if (this.#counts[group] !== count) {
      backend.write(tensor, Int32Array.of(0, count));
      this.#counts[group] = count;
    }
    return tensor;
  }

  free(backend: Backend): void {
    for (const tensor of [this.input, this.gate, this.up, this.down, this.place, this.#starts]) {
      backend.free(tensor);
    }
  }
}
