/**
 * A small tokenizer for a small model: byte-level BPE whose merges begin with a space or a capital
 * and grow from left to right. So the words of questions are one token each, while an answer in
 * lower case stays one token per letter, which is what a picture shows.
 */
import { BYTE_SPELLINGS } from "@/tokenizer/byte_level.ts";
import { familyAddedTokens } from "@/tokenizer/added_tokens.ts";
import { Tokenizer } from "@/tokenizer/tokenizer.ts";

/** The byte-level spelling of a space. */
const SPACE = BYTE_SPELLINGS[32]!;

const ADDED = familyAddedTokens(0).length;

/** All ids are used: bytes, merges of the most frequent words that fit, the family's markers. */
export function questionTokenizer(corpus: Iterable<string>, vocabularySize: number): Tokenizer {
  const merges = chains(wordCounts(corpus), vocabularySize - 256 - ADDED);
  const spellings = [...BYTE_SPELLINGS, ...merges.map(([left, right]) => left + right)];
  while (spellings.length < vocabularySize - ADDED) {
    spellings.push(`<|unused_${spellings.length}|>`);
  }
  const added = familyAddedTokens(spellings.length);
  return Tokenizer.fromParts({
    vocabulary: Object.fromEntries(spellings.map((spelling, id) => [spelling, id])),
    merges: merges.map((pair) => pair.join(" ")).join("\n"),
    addedTokens: Object.fromEntries(added.map(({ content, id }) => [content, id])),
    specialTokens: {
      additional_special_tokens: added.filter(({ special }) => special)
        .map(({ content }) => content),
    },
  });
}

/** In how many texts each word stands that begins with a space or a capital. */
function wordCounts(corpus: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of corpus) {
    for (const word of new Set(text.match(/ ?[A-Za-z]+/g))) {
      if (!/^[ A-Z]/.test(word)) continue;
      const spelling = word.replace(" ", SPACE);
      counts.set(spelling, (counts.get(spelling) ?? 0) + 1);
    }
  }
  return counts;
}

/** Merges left to right, words by frequency, as long as whole words fit. */
function chains(counts: ReadonlyMap<string, number>, most: number): [string, string][] {
  const words = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  const merges: [string, string][] = [];
  const seen = new Set<string>();
  for (const [word] of words) {
    const added: [string, string][] = [];
    for (let i = 1; i < word.length; i++) {
      if (!seen.has(word.slice(0, i + 1))) added.push([word.slice(0, i), word[i]!]);
    }
    if (merges.length + added.length > most) continue;
    for (const pair of added) seen.add(pair.join(""));
    merges.push(...added);
  }
  // Chains from a space come first: else " Nano" would begin with "Na" and never join its space.
  return merges.sort(([a], [b]) => Number(a[0] !== SPACE) - Number(b[0] !== SPACE));
}
