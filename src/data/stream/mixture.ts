/**
 * The order in which samples of several sources are drawn: by weights, from a seed, with a cursor
 * of a few numbers that continues the same order. Reads no sample itself.
 */
import { OperatingError } from "@/errors.ts";
import { hashText } from "../dice.ts";
import { hashWords, mix32, uniformAt } from "@/random.ts";

export interface MixtureSource {
  readonly name: string;
  /** Relative share of draws; 0 switches the source off. */
  readonly weight: number;
  /** Samples of a finite source, drawn in a new order each epoch; undefined = endless. */
  readonly size?: number;
}

/** Which sample to read: `index` in the source's own numbering. */
export interface Draw {
  readonly source: string;
  readonly index: number;
  /** Complete passes over the source before this draw. */
  readonly epoch: number;
}

/** Where a mixture stands; JSON. */
export interface MixtureCursor {
  readonly drawn: number;
  /** Draws per source so far. */
  readonly bySource: Readonly<Record<string, number>>;
}

export const MIXTURE_START: MixtureCursor = { drawn: 0, bySource: {} };

/**
 * Draws are independent of what happens to the samples. Weights may change between runs: a cursor
 * holds counts only, so a curriculum can shift the mixture and still resume exactly.
 */
export class Mixture {
  readonly #sources: readonly MixtureSource[];
  readonly #seed: number;
  #drawn: number;
  readonly #bySource: Map<string, number>;

  /** Throws OperatingError for weights that leave nothing to draw. */
  constructor(
    sources: readonly MixtureSource[],
    { seed, cursor = MIXTURE_START }: { seed: number; cursor?: MixtureCursor },
  ) {
    checkSources(sources);
    this.#sources = sources;
    this.#seed = seed;
    this.#drawn = cursor.drawn;
    this.#bySource = new Map(Object.entries(cursor.bySource));
  }

  get cursor(): MixtureCursor {
    return { drawn: this.#drawn, bySource: Object.fromEntries(this.#bySource) };
  }

  next(): Draw {
    const source = this.#choose(uniformAt(this.#seed, hashText("mixture"), this.#drawn));
    const count = this.#bySource.get(source.name) ?? 0;
    this.#drawn++;
    this.#bySource.set(source.name, count + 1);
    if (source.size === undefined) return { source: source.name, index: count, epoch: 0 };
    const epoch = Math.floor(count / source.size);
    const key = hashWords(this.#seed, hashText(source.name), epoch);
    const index = shuffledIndex(count % source.size, { size: source.size, key });
    return { source: source.name, index, epoch };
  }

  #choose(unit: number): MixtureSource {
    const total = this.#sources.reduce((sum, { weight }) => sum + weight, 0);
    let left = unit * total;
    for (const source of this.#sources) {
      left -= source.weight;
      if (left < 0) return source;
    }
    return this.#sources.findLast(({ weight }) => weight > 0)!;
  }
}

function checkSources(sources: readonly MixtureSource[]): void {
  const names = new Set<string>();
  for (const { name, weight, size } of sources) {
    if (names.has(name)) throw wrong(`source "${name}" is given twice`);
    names.add(name);
    if (!Number.isFinite(weight) || weight < 0) {
      throw wrong(`weight of "${name}" is ${weight}, expected 0 or more`);
    }
    if (size !== undefined && (!Number.isSafeInteger(size) || size < 1)) {
      throw wrong(`source "${name}" has ${size} samples, expected at least one`);
    }
  }
  if (!sources.some(({ weight }) => weight > 0)) throw wrong("no source has a weight above 0");
}

function wrong(problem: string): OperatingError {
  return new OperatingError("invalid_request", `Cannot mix data: ${problem}`);
}

/**
 * Position `at` of a pseudo-random order of 0 … size-1: a four-round Feistel network over the next
 * power of four, walked until it lands inside. Needs no table, whatever the size.
 */
export function shuffledIndex(at: number, { size, key }: { size: number; key: number }): number {
  if (size === 1) return 0;
  const half = Math.max(1, Math.ceil(Math.log2(size) / 2));
  const mask = 2 ** half - 1;
  let value = at;
  do {
    let [left, right] = [Math.floor(value / 2 ** half), value % 2 ** half];
    for (let round = 0; round < 4; round++) {
      const scrambled = mix32(right ^ hashWords(key, round)) & mask;
      [left, right] = [right, (left ^ scrambled) & mask];
    }
    value = left * 2 ** half + right;
  } while (value >= size);
  return value;
}

/**
 * Weights that balance sources of different sizes: size to the power `temperature`. 1 draws every
 * sample equally often, 0 every source.
 */
export function balancedWeights(
  sizes: Readonly<Record<string, number>>,
  temperature: number,
): Record<string, number> {
  const raw = Object.entries(sizes).map(([name, size]) => [name, size ** temperature] as const);
  const total = raw.reduce((sum, [, weight]) => sum + weight, 0);
  return Object.fromEntries(raw.map(([name, weight]) => [name, weight / total]));
}
