/**
 * Lays packed samples out as one row of tokens: block-diagonal segments, positions that start again
 * at 0, next-token targets that never cross a border, loss weights, and where pictures go.
 */
import { assert } from "@/assert.ts";
import type { Sized } from "./packer.ts";

/** Target of a row that predicts nothing. */
export const NO_TARGET = -1;

/** One sample in token ids. */
export interface TokenizedSample extends Sized {
  readonly id: string;
  readonly ids: Int32Array;
  /** Loss weight of each token as something to be predicted; 0 for prompts. */
  readonly weights: Float32Array;
  /** Runs of ids that visual tokens replace, in order: one per tile. */
  readonly spans: readonly { readonly start: number; readonly length: number }[];
  /** Tile pixels `[size, size, 3]` u8, one per span. */
  readonly tiles: readonly Uint8Array[];
}

/** How much one answer token counts: all the same, all samples the same, or between (1/√n). */
export type LossReduction = "token" | "sample" | "square";

export interface PackedBatch {
  readonly ids: Int32Array;
  /** Position in its own sample. */
  readonly positions: Int32Array;
  /** Cumulative lengths: segment i is rows `starts[i]` to `starts[i + 1]`. */
  readonly starts: Int32Array;
  /** Token that each row predicts, or NO_TARGET. */
  readonly targets: Int32Array;
  /** Weight of each row's loss; 0 where there is no target. */
  readonly weights: Float32Array;
  /** Sum of `weights`: divide by its total over all batches of the step, never by means of means. */
  readonly weightSum: number;
  readonly spans: readonly { readonly start: number; readonly length: number }[];
  readonly tiles: readonly Uint8Array[];
  readonly sampleIds: readonly string[];
}

/** Concatenates samples. */
export function packBatch(
  samples: readonly TokenizedSample[],
  reduction: LossReduction = "token",
): PackedBatch {
  assert(samples.length > 0, "a batch has samples");
  const rows = samples.reduce((sum, { ids }) => sum + ids.length, 0);
  const ids = new Int32Array(rows);
  const positions = new Int32Array(rows);
  const targets = new Int32Array(rows).fill(NO_TARGET);
  const weights = new Float32Array(rows);
  const starts = new Int32Array(samples.length + 1);
  const spans: { start: number; length: number }[] = [];
  let at = 0;
  for (const [i, sample] of samples.entries()) {
    assert(sample.weights.length === sample.ids.length, "one weight per token");
    assert(sample.spans.length === sample.tiles.length, "one tile per span");
    ids.set(sample.ids, at);
    const scale = reductionScale(answerTokens(sample), reduction);
    for (let j = 0; j < sample.ids.length; j++) {
      positions[at + j] = j;
      // Row j predicts token j + 1; the first token of a sample is predicted by nothing.
      if (j + 1 < sample.ids.length && sample.weights[j + 1]! > 0) {
        targets[at + j] = sample.ids[j + 1]!;
        weights[at + j] = sample.weights[j + 1]! * scale;
      }
    }
    for (const { start, length } of sample.spans) spans.push({ start: at + start, length });
    at += sample.ids.length;
    starts[i + 1] = at;
  }
  return {
    ids,
    positions,
    starts,
    targets,
    weights,
    weightSum: weights.reduce((sum, weight) => sum + weight, 0),
    spans,
    tiles: samples.flatMap(({ tiles }) => tiles),
    sampleIds: samples.map(({ id }) => id),
  };
}

/** Tokens of a sample that something predicts. */
function answerTokens({ weights }: TokenizedSample): number {
  let count = 0;
  for (let i = 1; i < weights.length; i++) if (weights[i]! > 0) count++;
  return count;
}

function reductionScale(count: number, reduction: LossReduction): number {
  if (reduction === "token" || count === 0) return 1;
  return reduction === "sample" ? 1 / count : 1 / Math.sqrt(count);
}
