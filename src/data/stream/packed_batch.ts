/**
 * Lays packed samples out as one row of tokens: block-diagonal segments, positions that start again
 * at 0, next-token targets that never cross a border, loss weights, and where pictures go.
 */
import { assert } from "@/assert.ts";
import type { Sized } from "./packer.ts";

/** One sample in token ids. */
export interface TokenizedSample extends Sized {
  readonly id: string;
  readonly ids: Int32Array;
  /** Loss weight of each token as something to be predicted; 0 for prompts. */
  readonly weights: Float32Array;
  /** Runs of ids that visual tokens replace, in order: one per picture. */
  readonly spans: readonly { readonly start: number; readonly count: number }[];
  /** Tile pixels `[size, size, 3]` u8 in order; a span holds one or several tiles. */
  readonly tiles: readonly Uint8Array[];
  /** What training asks the vision tower about each tile, see `training/cues.ts`. */
  readonly cues?: readonly Uint8Array[];
}

/** How much one answer token counts: all the same, all samples the same, or between (1/√n). */
export type LossReduction = "token" | "sample" | "square";

/** Rows of all samples, one after the other. */
export interface PackedBatch {
  /** i32 [rows] */
  readonly tokenIds: Int32Array;
  /** i32 [rows], from 0 in each sample. */
  readonly positions: Int32Array;
  /** Cumulative lengths: segment i is rows `starts[i]` to `starts[i + 1]`. */
  readonly starts: Int32Array;
  /** u8 [tiles, size, size, 3] */
  readonly tiles: Uint8Array;
  /** i32: rows that visual tokens fill, in their order. */
  readonly visualRows: Int32Array;
  /** i32, ascending: the logits of these rows predict … */
  readonly scoredRows: Int32Array;
  /** … these tokens … */
  readonly targets: Int32Array;
  /** … with these weights, none of them 0. */
  readonly weights: Float32Array;
  /** Sum of `weights`: divide by its total over all batches of a step, never by means of means. */
  readonly weightSum: number;
  readonly sampleIds: readonly string[];
  /** Of each tile; empty unless all samples have them. */
  readonly cues: readonly Uint8Array[];
}

/** Concatenates samples. */
export function packBatch(
  samples: readonly TokenizedSample[],
  reduction: LossReduction = "token",
): PackedBatch {
  assert(samples.length > 0, "a batch has samples");
  const rows = samples.reduce((sum, { ids }) => sum + ids.length, 0);
  const tokenIds = new Int32Array(rows);
  const positions = new Int32Array(rows);
  const starts = new Int32Array(samples.length + 1);
  const [visualRows, scoredRows, targets, weights] = [[], [], [], []] as number[][];
  let at = 0;
  for (const [i, sample] of samples.entries()) {
    assert(sample.weights.length === sample.ids.length, "one weight per token");
    tokenIds.set(sample.ids, at);
    const scale = reductionScale(answerTokens(sample), reduction);
    for (let j = 0; j < sample.ids.length; j++) {
      positions[at + j] = j;
      // Row j predicts token j + 1; the first token of a sample is predicted by nothing.
      const weight = j + 1 < sample.ids.length ? sample.weights[j + 1]! * scale : 0;
      if (weight === 0) continue;
      scoredRows!.push(at + j);
      targets!.push(sample.ids[j + 1]!);
      weights!.push(weight);
    }
    for (const { start, count } of sample.spans) {
      for (let j = 0; j < count; j++) visualRows!.push(at + start + j);
    }
    at += sample.ids.length;
    starts[i + 1] = at;
  }
  return {
    tokenIds,
    positions,
    starts,
    tiles: joined(samples.flatMap(({ tiles }) => tiles)),
    visualRows: Int32Array.from(visualRows!),
    scoredRows: Int32Array.from(scoredRows!),
    targets: Int32Array.from(targets!),
    weights: Float32Array.from(weights!),
    weightSum: weights!.reduce((sum, weight) => sum + weight, 0),
    sampleIds: samples.map(({ id }) => id),
    cues: samples.every(({ cues }) => cues) ? samples.flatMap(({ cues }) => cues!) : [],
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

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
