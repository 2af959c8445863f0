/** Seeded randomness: the only source of random numbers in the project. Pure and counter-based. */

/** 32-bit finaliser of MurmurHash3: a bijection with good avalanche. */
export function mix32(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Hashes a list of 32-bit words to one unsigned 32-bit word. Order matters. */
export function hashWords(...words: number[]): number {
  let h = 0x9e3779b9;
  for (const word of words) h = mix32((h + Math.imul(word | 0, 0x9e3779b1)) ^ (h << 7));
  return h >>> 0;
}

/**
 * Uniform number in [0, 1) with 53 random bits, drawn for (seed, choice, position) alone, so the
 * same request gives the same tokens whatever else is in the batch and whatever was speculated.
 */
export function uniformAt(seed: number, choice: number, position: number): number {
  const low = seed >>> 0;
  const high = Math.floor(seed / 2 ** 32) >>> 0;
  const a = hashWords(low, high, choice, position, 1) >>> 5;
  const b = hashWords(low, high, choice, position, 2) >>> 6;
  return (a * 67108864 + b) / 9007199254740992;
}

/** A small seeded generator for tests, simulations and synthetic weights (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A seed for requests that name none. */
export function freshSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}
