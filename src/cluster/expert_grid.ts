/**
 * Numbers for experts: every (layer, expert) pair of a model has one slot. Owns the numbering and
 * its text form; knows neither weights nor nodes.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";

export class ExpertGrid {
  /** Decoder layers that have experts, ascending. */
  readonly layers: readonly number[];
  /** Experts of each of them. */
  readonly experts: number;
  /** Number of slots. */
  readonly size: number;
  readonly #rowOfLayer: ReadonlyMap<number, number>;

  constructor(args: { layers: readonly number[]; experts: number }) {
    const { layers, experts } = args;
    assert(layers.every((layer, i) => i === 0 || layer > layers[i - 1]!), "layers must ascend");
    assert(layers.length >= 1 && experts >= 1, `${layers.length} layers of ${experts} experts`);
    this.layers = layers;
    this.experts = experts;
    this.size = layers.length * experts;
    assert(this.size <= limits.expertSlotsMax, `${this.size} experts`);
    this.#rowOfLayer = new Map(layers.map((layer, row) => [layer, row]));
  }

  has(layer: number, expert: number): boolean {
    return this.#rowOfLayer.has(layer) && Number.isInteger(expert) && expert >= 0 &&
      expert < this.experts;
  }

  /** First slot of a layer; its experts follow. */
  firstSlot(layer: number): number {
    const row = this.#rowOfLayer.get(layer);
    assert(row !== undefined, `layer ${layer} has no experts`);
    return row * this.experts;
  }

  slot(layer: number, expert: number): number {
    assert(this.has(layer, expert), `no expert ${expert} in layer ${layer}`);
    return this.firstSlot(layer) + expert;
  }

  layerOf(slot: number): number {
    return this.layers[this.rowOf(slot)]!;
  }

  /** Place of a slot's layer among those that have experts. */
  rowOf(slot: number): number {
    return Math.floor(slot / this.experts);
  }

  expertOf(slot: number): number {
    return slot % this.experts;
  }

  /** For people: "expert 17 of layer 3". */
  describe(slot: number): string {
    return `expert ${this.expertOf(slot)} of layer ${this.layerOf(slot)}`;
  }
}

/** Slots as ascending ranges, e.g. "0-127,130". */
export function formatSlots(slots: Iterable<number>): string {
  const sorted = [...new Set(slots)].sort((a, b) => a - b);
  const ranges: string[] = [];
  for (let start = 0; start < sorted.length;) {
    let end = start;
    while (sorted[end + 1] === sorted[end]! + 1) end += 1;
    ranges.push(start === end ? `${sorted[start]}` : `${sorted[start]}-${sorted[end]}`);
    start = end + 1;
  }
  return ranges.join(",");
}

/** The inverse of `formatSlots`, for slots below `size`. Throws SyntaxError or RangeError. */
export function parseSlots(text: string, size: number): Set<number> {
  const slots = new Set<number>();
  let next = 0;
  for (const range of text === "" ? [] : text.split(",")) {
    const match = /^(\d{1,7})(?:-(\d{1,7}))?$/.exec(range);
    if (!match) throw new SyntaxError(`Cannot read slots: "${range}" is no range`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first > last || last >= size || first < next) {
      throw new RangeError(`Cannot read slots: ${range} is not within ${size} slots, ascending`);
    }
    next = last + 1;
    for (let slot = first; slot <= last; slot++) slots.add(slot);
  }
  return slots;
}
