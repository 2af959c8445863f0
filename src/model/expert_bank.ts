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
  readonly #held = new Map<string, ExpertWeights>();
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

  /** Results [P, H] in the order of the pairs. */
  async compute(pairs: ExpertPairs): Promise<Float32Array<ArrayBuffer>> {
    const { expertOfPair } = pairs;
    const { width } = this;
    const out = new Float32Array(expertOfPair.length * width);
    const order = Array.from({ length: expertOfPair.length }, (_, pair) => pair)
      .sort((a, b) => expertOfPair[a]! - expertOfPair[b]! || a - b);
    for (let first = 0; first < order.length; first += PAIRS_AT_ONCE) {
      const part = order.slice(first, first + PAIRS_AT_ONCE);
      const values = await this.#computePart(pairs, part);
      part.forEach((pair, place) => {
        out.set(values.subarray(place * width, (place + 1) * width), pair * width);
      });
    }
    return out;
  }

  /** `order`: pairs grouped by expert. Results in that order. */
  async #computePart(pairs: ExpertPairs, order: readonly number[]): Promise<Float32Array> {
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
    const input = new Float32Array(order.length * width);
    order.forEach((pair, place) => {
      const row = rowOfPair[pair]!;
      input.set(rows.subarray(row * width, (row + 1) * width), place * width);
    });
    const [gate, up, down] = [scratch.gate, scratch.up, scratch.down]
      .map((tensor) => sliceRows(tensor, 0, order.length)) as [Tensor, Tensor, Tensor];
    this.#backend.write(sliceRows(scratch.input, 0, order.length), input);
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
      const from = slice(scratch.input);
      ops.expertMatmul({ input: from, weight: weights.gate, ...grouping, out: slice(gate) });
      ops.expertMatmul({ input: from, weight: weights.up, ...grouping, out: slice(up) });
    }
    ops.swiglu({ gate, up, out: gate });
    for (const { weights, slice, grouping } of products) {
      const [from, to] = [slice(gate), slice(down)];
      ops.expertMatmul({ input: from, weight: weights.down, ...grouping, out: to });
    }
    await this.#backend.flush({ isShort: this.#mayHoldUp && order.length <= SHORT_PAIRS_MAX });
    return await this.#backend.read(down) as Float32Array;
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

function keyOf({ layer, expert }: ExpertPlace): string {
  return `${layer}/${expert}`;
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
  }

  /** [0, count]: where the one expert of a group starts and ends. */
  start(backend: Backend, group: number, count: number): Tensor {
    const byteOffset = this.#starts.byteOffset + group * START_BYTES;
    const tensor = { ...this.#starts, shape: [2], byteOffset };
    backend.write(tensor, Int32Array.of(0, count));
    return tensor;
  }

  free(backend: Backend): void {
    for (const tensor of [this.input, this.gate, this.up, this.down, this.place, this.#starts]) {
      backend.free(tensor);
    }
  }
}
