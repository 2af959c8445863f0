/**
 * Online packing: fills token budgets from a buffer of waiting samples, evens out the visual tokens
 * of packs that are computed together, and admits long samples before they starve. Knows sizes
 * only; `packed_batch.ts` lays the tokens out.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";

/** What the packer must know of a sample. */
export interface Sized {
  readonly tokens: number;
  /** Those of them that pictures fill; the vision encoder's work grows with it. */
  readonly visualTokens: number;
}

export interface PackerOptions {
  /** Token rows of one pack. */
  readonly tokensMax: number;
  /** Visual tokens of one pack; undefined = as many as fit. */
  readonly visualTokensMax?: number;
  /** Packs made together (ranks, or micro-batches of one step), balanced against each other. */
  readonly packsTogether: number;
  /** Waiting samples to choose from. */
  readonly bufferSamples: number;
  /** Rounds after which a waiting sample is placed before all others. */
  readonly roundsWaitedMax: number;
}

/** A waiting sample: who it is, and how many rounds went by without it. */
export interface Waiting<R> {
  readonly reference: R;
  readonly waited: number;
}

export interface Pack<T> {
  readonly items: readonly T[];
  readonly tokens: number;
  readonly visualTokens: number;
}

/**
 * Draws samples on demand and hands out rounds of packs. The same draws give the same packs: ties
 * break by order of arrival. `R` is a sample's name, kept in the cursor; `T` the sample itself.
 */
export class Packer<R, T extends Sized> {
  readonly #options: PackerOptions;
  readonly #draw: () => R;
  readonly #read: (reference: R) => Promise<T> | T;
  #buffer: { reference: R; item: T; waited: number }[] = [];
  #refused = 0;

  constructor(
    options: PackerOptions,
    { draw, read }: { draw: () => R; read: (reference: R) => Promise<T> | T },
  ) {
    assert(options.tokensMax >= 1 && options.packsTogether >= 1, "a pack needs room");
    assert(options.bufferSamples >= 1 && options.roundsWaitedMax >= 0, "a buffer needs room");
    this.#options = options;
    this.#draw = draw;
    this.#read = read;
  }

  /** Samples that no pack can hold, left out so far. */
  get refused(): number {
    return this.#refused;
  }

  /** The waiting samples, to be kept beside the mixture's cursor. */
  get waiting(): Waiting<R>[] {
    return this.#buffer.map(({ reference, waited }) => ({ reference, waited }));
  }

  /** Puts waiting samples of an interrupted run back, in their order. */
  async restore(waiting: readonly Waiting<R>[], refused: number): Promise<void> {
    this.#buffer = [];
    for (const { reference, waited } of waiting) {
      this.#buffer.push({ reference, waited, item: await this.#read(reference) });
    }
    this.#refused = refused;
  }

  /** `packsTogether` packs, none of them empty. */
  async nextRound(): Promise<Pack<T>[]> {
    await this.#refill();
    const { tokensMax, packsTogether, roundsWaitedMax } = this.#options;
    const packs = Array.from({ length: packsTogether }, () => new OpenPack<T>());
    const order = this.#buffer
      .map((entry, arrival) => ({ entry, arrival, forced: entry.waited >= roundsWaitedMax }))
      .sort((a, b) =>
        Number(b.forced) - Number(a.forced) ||
        (a.forced ? a.arrival - b.arrival : largerFirst(a.entry.item, b.entry.item)) ||
        a.arrival - b.arrival
      );
    const placed = new Set<number>();
    for (const { entry, arrival, forced } of order) {
      const pack = this.#lightest(packs, entry.item);
      if (!pack || (!forced && wouldTip(pack, packs, entry.item))) continue;
      pack.add(entry.item);
      placed.add(arrival);
    }
    this.#buffer = this.#buffer
      .filter((_, arrival) => !placed.has(arrival))
      .map((entry) => ({ ...entry, waited: entry.waited + 1 }));
    await this.#fillEmpty(packs);
    assert(packs.every(({ tokens }) => tokens > 0 && tokens <= tokensMax), "packs are filled");
    return packs.map((pack) => pack.done());
  }

  /**
   * The pack with room that has the least visual work, then the fewest tokens. Text goes by tokens
   * alone: else it would fill the pack that needs pictures most.
   */
  #lightest(packs: readonly OpenPack<T>[], item: T): OpenPack<T> | undefined {
    let best: OpenPack<T> | undefined;
    for (const pack of packs) {
      if (!this.#fits(pack, item)) continue;
      if (!best || loadOrder(pack, best, item) < 0) best = pack;
    }
    return best;
  }

  #fits(pack: OpenPack<T>, item: T): boolean {
    const { tokensMax, visualTokensMax = Infinity } = this.#options;
    return pack.tokens + item.tokens <= tokensMax &&
      pack.visualTokens + item.visualTokens <= visualTokensMax;
  }

  async #refill(): Promise<void> {
    while (this.#buffer.length < this.#options.bufferSamples) {
      const next = await this.#drawFitting();
      this.#buffer.push({ ...next, waited: 0 });
    }
  }

  /** The buffer may have been smaller than the round. */
  async #fillEmpty(packs: readonly OpenPack<T>[]): Promise<void> {
    for (const pack of packs) {
      if (pack.tokens === 0) pack.add((await this.#drawFitting()).item);
    }
  }

  /** Draws until a sample fits an empty pack. */
  async #drawFitting(): Promise<{ reference: R; item: T }> {
    for (let tries = 0; tries < REFUSALS_IN_A_ROW_MAX; tries++) {
      const reference = this.#draw();
      const item = await this.#read(reference);
      assert(item.tokens >= 1, "a sample has tokens");
      if (this.#fits(new OpenPack<T>(), item)) return { reference, item };
      this.#refused++;
    }
    throw new OperatingError(
      "invalid_request",
      `Cannot pack data: ${REFUSALS_IN_A_ROW_MAX} samples in a row are longer than ` +
        `${this.#options.tokensMax} tokens`,
    );
  }
}

const REFUSALS_IN_A_ROW_MAX = 1000;

/** Large samples are placed first: small ones fill what is left. */
function largerFirst(a: Sized, b: Sized): number {
  return b.visualTokens - a.visualTokens || b.tokens - a.tokens;
}

/** Negative when the first pack should take the item. */
function loadOrder(a: Sized, b: Sized, item: Sized): number {
  const byVisual = item.visualTokens > 0 ? a.visualTokens - b.visualTokens : 0;
  return byVisual || a.tokens - b.tokens;
}

/** Whether a picture would leave a pack with less visual work, and no room for it, behind. */
function wouldTip(pack: Sized, packs: readonly Sized[], item: Sized): boolean {
  if (item.visualTokens === 0) return false;
  const least = packs.reduce((low, { visualTokens }) => Math.min(low, visualTokens), Infinity);
  return pack.visualTokens - least > item.visualTokens / 2;
}

class OpenPack<T extends Sized> {
  readonly items: T[] = [];
  tokens = 0;
  visualTokens = 0;

  add(item: T): void {
    this.items.push(item);
    this.tokens += item.tokens;
    this.visualTokens += item.visualTokens;
  }

  done(): Pack<T> {
    return { items: this.items, tokens: this.tokens, visualTokens: this.visualTokens };
  }
}
