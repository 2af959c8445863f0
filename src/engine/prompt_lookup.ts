/**
 * Drafts by copying: finds where the last tokens of a sequence stood before, in prompt or answer,
 * and proposes what followed there (prompt-lookup decoding). Hash chains as in LZ77: constant time
 * and 8 bytes per token, and a bounded search. Whether copying pays is speculation.ts' business.
 */
import { hashWords } from "@/random.ts";

/** Tokens that must match before anything is copied. */
const MATCH_MIN = 2;
/** A longer match is not sought: it would hardly be a better one. */
const MATCH_MAX = 12;
/** Earlier places that are compared, newest first. */
const PLACES_MAX = 24;
/** Sizes of the hash table, powers of two. */
const [HEADS_MIN, HEADS_MAX] = [1 << 10, 1 << 16];

export interface Copy {
  readonly ids: readonly number[];
  /** Tokens before the copied ones that are equal at both places, at most 12. */
  readonly matched: number;
}

export class PromptLookup {
  #ids: Int32Array;
  #length = 0;
  /** By hash of two tokens: 1 + the newest position whose last two tokens have it; 0 = none. */
  readonly #heads: Int32Array;
  /** By position: 1 + the next older position with the same hash. */
  #older: Int32Array;

  /** `tokens` is the length expected at first; it only sizes the tables. */
  constructor(tokens: number) {
    const capacity = Math.max(64, 2 * tokens);
    this.#ids = new Int32Array(capacity);
    this.#older = new Int32Array(capacity);
    const heads = 2 ** Math.ceil(Math.log2(capacity));
    this.#heads = new Int32Array(Math.min(HEADS_MAX, Math.max(HEADS_MIN, heads)));
  }

  /** Tokens known. */
  get length(): number {
    return this.#length;
  }

  /** Appends tokens. */
  push(ids: readonly number[]): void {
    for (const id of ids) {
      if (this.#length === this.#ids.length) this.#grow();
      const at = this.#length++;
      this.#ids[at] = id;
      if (at + 1 < MATCH_MIN) continue;
      const head = this.#hashAt(at);
      this.#older[at] = this.#heads[head]!;
      this.#heads[head] = at + 1;
    }
  }

  /** At most `count` tokens that may come next; none when the last two never stood together. */
  propose(count: number): Copy | undefined {
    const last = this.#length - 1;
    if (last + 1 < MATCH_MIN || count < 1) return undefined;
    let best = -1;
    let matched = MATCH_MIN - 1;
    let place = this.#older[last]! - 1;
    for (let tries = 0; place >= 0 && tries < PLACES_MAX && matched < MATCH_MAX; tries++) {
      const length = this.#matchLength(place, last);
      if (length > matched) [best, matched] = [place, length];
      place = this.#older[place]! - 1;
    }
    if (best < 0) return undefined;
    const ids: number[] = [];
    for (let at = best + 1; ids.length < count; at++) {
      // A copy that reaches the end goes on with itself: a repetition continues.
      ids.push(at <= last ? this.#ids[at]! : ids[at - last - 1]!);
    }
    return { ids, matched };
  }

  /** Equal tokens at and before two positions. */
  #matchLength(place: number, last: number): number {
    let length = 0;
    while (
      length < MATCH_MAX && place >= length &&
      this.#ids[place - length] === this.#ids[last - length]
    ) length += 1;
    return length;
  }

  #hashAt(at: number): number {
    return hashWords(this.#ids[at - 1]!, this.#ids[at]!) & (this.#heads.length - 1);
  }

  #grow(): void {
    this.#ids = doubled(this.#ids);
    this.#older = doubled(this.#older);
  }
}

function doubled(values: Int32Array): Int32Array {
  const larger = new Int32Array(2 * values.length);
  larger.set(values);
  return larger;
}
