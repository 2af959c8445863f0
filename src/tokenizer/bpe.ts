/**
 * Byte-pair merging over ids: which pairs merge, in which order, and the merge loop. Does not know
 * text, files or added tokens; `tokenizer.ts` hands it the bytes of one piece.
 */
import { MergeQueue } from "./merge_queue.ts";

/** One merge: two adjacent tokens that become one. */
export interface Merge {
  left: number;
  right: number;
  merged: number;
}

/** Pieces up to this many bytes share one set of buffers; longer ones allocate and release. */
const SCRATCH_BYTES = 4096;
const NONE = -1;

/** Hash table from a pair of ids to its rank, open addressing in typed arrays. */
class PairTable {
  readonly #ranks: Int32Array;
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #mask: number;

  constructor(merges: readonly Merge[]) {
    const capacity = 2 ** Math.ceil(Math.log2(merges.length * 2 + 2));
    this.#mask = capacity - 1;
    this.#ranks = new Int32Array(capacity).fill(NONE);
    this.#lefts = new Int32Array(capacity);
    this.#rights = new Int32Array(capacity);
    // A repeated pair keeps its last rank, as in the reference.
    for (const [rank, { left, right }] of merges.entries()) {
      const slot = this.#slotOf(left, right);
      this.#lefts[slot] = left;
      this.#rights[slot] = right;
      this.#ranks[slot] = rank;
    }
  }

  /** Rank of the pair, or -1 when it does not merge. */
  rankOf(left: number, right: number): number {
    return this.#ranks[this.#slotOf(left, right)]!;
  }

  #slotOf(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    let slot = hash & this.#mask;
    while (
      this.#ranks[slot] !== NONE && (this.#lefts[slot] !== left || this.#rights[slot] !== right)
    ) slot = (slot + 1) & this.#mask;
    return slot;
  }
}

/** The symbols of one piece as a doubly linked list in arrays; `NONE` ends it. */
class SymbolList {
  readonly ids: Int32Array;
  readonly previous: Int32Array;
  readonly next: Int32Array;

  constructor(capacity: number) {
    this.ids = new Int32Array(capacity);
    this.previous = new Int32Array(capacity);
    this.next = new Int32Array(capacity);
  }

  fill(bytes: Uint8Array, byteIds: Int32Array): void {
    const last = bytes.length - 1;
    for (let i = 0; i <= last; i++) {
      this.ids[i] = byteIds[bytes[i]!]!;
      this.previous[i] = i - 1;
      this.next[i] = i < last ? i + 1 : NONE;
    }
  }

  /** Puts `merged` at `position` and removes the symbol after it. */
  mergeAt(position: number, merged: number): void {
    const removed = this.next[position]!;
    const after = this.next[removed]!;
    this.ids[position] = merged;
    this.ids[removed] = NONE;
    this.next[position] = after;
    if (after !== NONE) this.previous[after] = position;
  }
}

/** Merges the bytes of a piece to token ids in O(n log n) for any input. */
export class Bpe {
  /** The merges in rank order. */
  readonly merges: readonly Merge[];
  readonly #byteIds: Int32Array;
  readonly #pairs: PairTable;
  readonly #scratch = new SymbolList(SCRATCH_BYTES);
  readonly #scratchQueue = new MergeQueue(SCRATCH_BYTES);

  /** `byteIds` [256]: the id of each single byte. `merges`: best first. */
  constructor(byteIds: Int32Array, merges: readonly Merge[]) {
    this.merges = merges;
    this.#byteIds = byteIds;
    this.#pairs = new PairTable(merges);
  }

  /**
   * Appends the token ids of one piece to `ids`. Always applies the merge of the lowest rank, the
   * leftmost first. Returns the comparisons made, the measure of work.
   */
  encode(bytes: Uint8Array, ids: number[]): number {
    if (bytes.length === 0) return 0;
    const isShort = bytes.length <= SCRATCH_BYTES;
    const symbols = isShort ? this.#scratch : new SymbolList(bytes.length);
    const queue = isShort ? this.#scratchQueue : new MergeQueue(bytes.length);
    const comparisonsBefore = queue.comparisonCount;
    symbols.fill(bytes, this.#byteIds);
    for (let i = 0; i + 1 < bytes.length; i++) this.#enqueue(symbols, queue, i);
    while (queue.length > 0) {
      const rank = queue.pop();
      const position = queue.payload;
      // An entry is stale when one of its symbols has merged since; merged-away ids never match.
      if (this.#rankAt(symbols, position) !== rank) continue;
      symbols.mergeAt(position, this.merges[rank]!.merged);
      this.#enqueue(symbols, queue, position);
      const previous = symbols.previous[position]!;
      if (previous !== NONE) this.#enqueue(symbols, queue, previous);
    }
    for (let i = 0; i !== NONE; i = symbols.next[i]!) ids.push(symbols.ids[i]!);
    return queue.comparisonCount - comparisonsBefore;
  }

  #enqueue(symbols: SymbolList, queue: MergeQueue, position: number): void {
    const rank = this.#rankAt(symbols, position);
    if (rank !== NONE) queue.push(rank, position);
  }

  #rankAt(symbols: SymbolList, position: number): number {
    const next = symbols.next[position]!;
    const id = symbols.ids[position]!;
    return next === NONE || id === NONE ? NONE : this.#pairs.rankOf(id, symbols.ids[next]!);
  }
}
