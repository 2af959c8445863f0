/**
 * Learns a byte-pair vocabulary from text (Sennrich et al. 2016, arXiv:1508.07909, over bytes).
 * Deterministic: the same pieces in the same order give the same merges. For small vocabularies;
 * knows nothing of files, added tokens or ids beyond bytes 0…255 and merges from 256 on.
 */
import { BYTE_SPELLINGS } from "./byte_level.ts";
import type { Merge } from "./bpe.ts";
import { MergeQueue } from "./merge_queue.ts";

export interface BpeTrainingOptions {
  /** Bytes and merges together; training stops earlier when no pair is frequent enough. */
  vocabularySize: number;
  /** A pair seen less often than this does not merge. */
  pairCountMin: number;
}

/** Learned merges with ids: byte b is id b, new tokens follow from 256 in order of merging. */
export interface LearnedBpe {
  /** Byte-level spelling by id. */
  spellings: string[];
  merges: Merge[];
}

/** A distinct piece of the corpus and how often it occurs. */
interface Word {
  symbols: number[];
  count: number;
}

/** A pair of adjacent symbols: where it may occur and how often it does. */
interface Pair {
  left: number;
  right: number;
  count: number;
  words: Set<Word>;
}

/** Pairs of adjacent symbols, numbered in the order in which they were first seen. */
class PairCounts {
  readonly pairs: Pair[] = [];
  readonly #indexes = new Map<number, number>();

  /** Adds `count` (may be negative) occurrences within `word`; returns the pair's index. */
  add(left: number, right: number, word: Word, count: number): number {
    const key = left * 2 ** 26 + right;
    let index = this.#indexes.get(key);
    if (index === undefined) {
      index = this.pairs.length;
      this.#indexes.set(key, index);
      this.pairs.push({ left, right, count: 0, words: new Set() });
    }
    const pair = this.pairs[index]!;
    pair.count += count;
    if (count > 0) pair.words.add(word);
    return index;
  }
}

/**
 * Learns merges from the pieces of a corpus with their counts. Each step merges the most frequent
 * pair, among equals the one first seen.
 */
export function learnBpe(
  pieceCounts: ReadonlyMap<string, number>,
  { vocabularySize, pairCountMin }: BpeTrainingOptions,
): LearnedBpe {
  const spellings = [...BYTE_SPELLINGS];
  const ids = new Map(spellings.map((spelling, id) => [spelling, id]));
  const merges: Merge[] = [];
  const encoder = new TextEncoder();
  const counts = new PairCounts();
  for (const [piece, count] of pieceCounts) {
    const word = { symbols: [...encoder.encode(piece)], count };
    for (let i = 1; i < word.symbols.length; i++) {
      counts.add(word.symbols[i - 1]!, word.symbols[i]!, word, count);
    }
  }
  const queue = new MergeQueue();
  counts.pairs.forEach((pair, index) => queue.push(-pair.count, index));
  while (spellings.length < vocabularySize && queue.length > 0) {
    const count = -queue.pop();
    const pair = counts.pairs[queue.payload]!;
    if (pair.count < pairCountMin) continue;
    // A stale entry goes back with its present count; a pair that became more frequent has
    // been queued anew already.
    if (pair.count !== count) {
      queue.push(-pair.count, queue.payload);
      continue;
    }
    const spelling = spellings[pair.left]! + spellings[pair.right]!;
    // Two pairs may spell the same token; both merge to its one id.
    const merged = ids.get(spelling) ?? spellings.push(spelling) - 1;
    ids.set(spelling, merged);
    merges.push({ left: pair.left, right: pair.right, merged });
    const created = new Set<number>();
    for (const word of pair.words) mergeWord(word, pair, { merged, counts, created });
    pair.words.clear();
    for (const index of created) {
      if (counts.pairs[index]!.count > 0) queue.push(-counts.pairs[index]!.count, index);
    }
  }
  return { spellings, merges };
}

/** Replaces `pair` in one word and moves the counts of the pairs around it. */
function mergeWord(
  word: Word,
  { left, right }: Pair,
  { merged, counts, created }: { merged: number; counts: PairCounts; created: Set<number> },
): void {
  const before = word.symbols;
  const after: number[] = [];
  for (let i = 0; i < before.length; i++) {
    const matches = before[i] === left && before[i + 1] === right;
    after.push(matches ? merged : before[i]!);
    if (matches) i++;
  }
  if (after.length === before.length) return;
  for (let i = 1; i < before.length; i++) {
    counts.add(before[i - 1]!, before[i]!, word, -word.count);
  }
  for (let i = 1; i < after.length; i++) {
    const index = counts.add(after[i - 1]!, after[i]!, word, word.count);
    if (after[i - 1] === merged || after[i] === merged) created.add(index);
  }
  word.symbols = after;
}
