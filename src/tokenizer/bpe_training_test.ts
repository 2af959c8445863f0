import fc from "fast-check";
import { deepEqual, equal } from "node:assert/strict";
import { BYTE_SPELLINGS } from "./byte_level.ts";
import { learnBpe } from "./bpe_training.ts";

const MIN = { pairCountMin: 1 };

/** Recounts every pair from scratch at each step; returns the count of each merge when chosen. */
function countsNaively(pieces: ReadonlyMap<string, number>, vocabularySize: number): number[] {
  const words = [...pieces].map(([piece, count]) => {
    return { symbols: [...new TextEncoder().encode(piece)].map((b) => BYTE_SPELLINGS[b]!), count };
  });
  const tokens = new Set(BYTE_SPELLINGS);
  const chosen: number[] = [];
  while (tokens.size < vocabularySize) {
    const counts = new Map<string, number>();
    for (const { symbols, count } of words) {
      for (let i = 1; i < symbols.length; i++) {
        const key = `${symbols[i - 1]} ${symbols[i]}`;
        counts.set(key, (counts.get(key) ?? 0) + count);
      }
    }
    const best = Math.max(0, ...counts.values());
    const tied = [...counts].filter(([, count]) => count === best);
    // Ties are a free choice, so the comparison ends at the first one.
    if (tied.length !== 1) return chosen;
    const [left, right] = tied[0]![0].split(" ");
    chosen.push(best);
    tokens.add(left! + right!);
    for (const word of words) {
      const after: string[] = [];
      for (let i = 0; i < word.symbols.length; i++) {
        const matches = word.symbols[i] === left && word.symbols[i + 1] === right;
        after.push(matches ? left! + right! : word.symbols[i]!);
        if (matches) i++;
      }
      word.symbols = after;
    }
  }
  return chosen;
}

/** Counts, by the definition, of the merges that `learnBpe` chose. */
function replayCounts(pieces: ReadonlyMap<string, number>, vocabularySize: number): number[] {
  const { merges } = learnBpe(pieces, { vocabularySize, ...MIN });
  const words = [...pieces].map(([piece, count]) => {
    return { symbols: [...new TextEncoder().encode(piece)], count };
  });
  return merges.map(({ left, right, merged }) => {
    let total = 0;
    for (const word of words) {
      for (let i = 1; i < word.symbols.length; i++) {
        if (word.symbols[i - 1] === left && word.symbols[i] === right) total += word.count;
      }
      for (let i = 0; i + 1 < word.symbols.length; i++) {
        const matches = word.symbols[i] === left && word.symbols[i + 1] === right;
        if (matches) word.symbols.splice(i, 2, merged);
      }
    }
    return total;
  });
}

Deno.test("learnBpe() merges the pair that a full recount finds most frequent", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "é"), maxLength: 12 });
  const pieces = fc.array(fc.tuple(word, fc.integer({ min: 1, max: 1000 })), { maxLength: 8 });
  let compared = 0;
  fc.assert(
    fc.property(pieces, (entries) => {
      const pieceCounts = new Map(entries);
      const expected = countsNaively(pieceCounts, 270);
      deepEqual(replayCounts(pieceCounts, 270).slice(0, expected.length), expected);
      compared += expected.length;
    }),
    { numRuns: 500 },
  );
  equal(compared > 500, true);
});

Deno.test("learnBpe() stops at the size or at the least count of a pair", () => {
  const pieces = new Map([["abab", 3], ["cd", 1]]);
  equal(learnBpe(pieces, { vocabularySize: 257, pairCountMin: 1 }).spellings.length, 257);
  const { spellings } = learnBpe(pieces, { vocabularySize: 1000, pairCountMin: 2 });
  deepEqual(spellings.slice(256), ["ab", "abab"]);
});

Deno.test("learnBpe() gives one id to a token that two pairs spell", () => {
  const pieces = new Map([["ab", 100], ["abc", 10], ["xbc", 50], ["xbcabc", 20], ["bc", 90]]);
  const { spellings } = learnBpe(pieces, { vocabularySize: 300, pairCountMin: 1 });
  equal(new Set(spellings).size, spellings.length);
});
