/**
 * Which answers of packed batches the model would have given, with each token before the next one
 * given (teacher forcing): an answer is right when greedy decoding picks every token of it.
 */
import { assert } from "@/assert.ts";
import type { PackedBatch } from "@/data/stream/packed_batch.ts";

/** One sample's part of a batch. */
export interface GreedyAnswer {
  readonly right: boolean;
  /** Tokens wanted, and those that the model would have said. */
  readonly targets: Int32Array;
  readonly greedy: Int32Array;
}

/** Of each sample of a batch, in its order. `greedy`: i32 [scored rows]. */
export function greedyAnswers(
  { starts, scoredRows, targets }: Pick<PackedBatch, "starts" | "scoredRows" | "targets">,
  greedy: Int32Array,
): GreedyAnswer[] {
  assert(greedy.length === targets.length, `${greedy.length} tokens for ${targets.length} rows`);
  const answers: GreedyAnswer[] = [];
  let at = 0;
  for (let i = 0; i + 1 < starts.length; i++) {
    const from = at;
    while (at < scoredRows.length && scoredRows[at]! < starts[i + 1]!) at++;
    const [wanted, said] = [targets.subarray(from, at), greedy.subarray(from, at)];
    const right = wanted.every((token, j) => token === said[j]);
    answers.push({ right, targets: wanted, greedy: said });
  }
  return answers;
}
