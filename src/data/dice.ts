/** Seeded draws for makers and mixtures: one generator, the few distributions they need. */
import { assert } from "@/assert.ts";
import { hashWords, seededRandom } from "@/random.ts";

/** 32-bit FNV-1a of a text's UTF-16 units: turns names into seed words. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}

/** A stream of random decisions that depends on its seed alone. */
export class Dice {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  /** The dice of item `index` under a name: any item can be made without those before it. */
  static of(name: string, seed: number, index: number): Dice {
    const high = Math.floor(index / 2 ** 32);
    return new Dice(hashWords(hashText(name), seed, Math.floor(seed / 2 ** 32), index, high));
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.#next();
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.#next();
  }

  /** Uniform integer from `low` to `high`, both included. */
  integer(low: number, high: number): number {
    assert(low <= high, `no integer from ${low} to ${high}`);
    return low + Math.floor(this.#next() * (high - low + 1));
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, "nothing to pick from");
    return items[Math.floor(this.#next() * items.length)]!;
  }

  /** One of the pairs' values, in proportion to its weight. */
  weighted<T>(pairs: readonly (readonly [T, number])[]): T {
    const total = pairs.reduce((sum, [, weight]) => sum + weight, 0);
    assert(total > 0, "weights must not all be zero");
    let left = this.#next() * total;
    for (const [value, weight] of pairs) {
      left -= weight;
      if (left < 0 && weight > 0) return value;
    }
    return pairs.findLast(([, weight]) => weight > 0)![0];
  }

  /** A shuffled copy (Fisher-Yates). */
  shuffled<T>(items: readonly T[]): T[] {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = Math.floor(this.#next() * (i + 1));
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }

  /** `count` different items, in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    assert(count <= items.length, `cannot draw ${count} of ${items.length}`);
    return this.shuffled(items).slice(0, count);
  }

  /** Normal with mean 0 and deviation 1 (Box-Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.#next()));
    return radius * Math.cos(2 * Math.PI * this.#next());
  }
}
