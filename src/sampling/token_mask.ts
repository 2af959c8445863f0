/** Sets of allowed token ids as bit masks, in the layout that the `sample` op reads. */
import { assert } from "@/assert.ts";

/** Words of one mask: bit (id & 31) of word id >> 5. */
export function maskWords(vocabularySize: number): number {
  return Math.ceil(vocabularySize / 32);
}

/**
 * The ids that may ever be sampled: below `usableVocabulary` (what follows are padding rows of the
 * embedding, without text) and not in `forbiddenIds` (image placeholders and the like).
 * Returns i32 [ceil(vocabularySize / 32)].
 */
export function allowedIds(args: {
  vocabularySize: number;
  usableVocabulary: number;
  forbiddenIds: Iterable<number>;
}): Int32Array {
  const { vocabularySize, usableVocabulary } = args;
  assert(
    usableVocabulary > 0 && usableVocabulary <= vocabularySize,
    `${usableVocabulary} usable ids of ${vocabularySize}`,
  );
  const words = new Int32Array(maskWords(vocabularySize));
  for (let id = 0; id < usableVocabulary; id++) words[id >> 5]! |= 1 << (id & 31);
  for (const id of args.forbiddenIds) {
    if (id < vocabularySize) words[id >> 5]! &= ~(1 << (id & 31));
  }
  assert(words.some((word) => word !== 0), "every token id is forbidden");
  return words;
}

/** Whether `id` is in the set. */
export function isAllowed(words: Int32Array, id: number): boolean {
  return id >= 0 && ((words[id >> 5] ?? 0) >>> (id & 31) & 1) === 1;
}
