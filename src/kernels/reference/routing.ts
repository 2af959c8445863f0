/** Mixture-of-experts bookkeeping: choosing experts, grouping rows by expert, combining results. */
import { assert } from "@/assert.ts";

/** See `Ops.gateTopK`. Experts are ranked by logit, which is the order of their probabilities. */
export function gateTopK(
  args: {
    logits: Float32Array;
    experts: number;
    k: number;
    normalize: boolean;
    expertIndex: Int32Array;
    expertWeight: Float32Array;
  },
): void {
  const { logits, experts, k, normalize, expertIndex, expertWeight } = args;
  const rowCount = logits.length / experts;
  for (let r = 0; r < rowCount; r++) {
    const row = logits.subarray(r * experts, (r + 1) * experts);
    const ranked = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
    const largest = row[ranked[0]!]!;
    const terms = Array.from(row, (logit) => Math.exp(logit - largest));
    const chosen = ranked.slice(0, k);
    let total = 0;
    for (const expert of normalize ? chosen : terms.keys()) total += terms[expert]!;
    chosen.forEach((expert, choice) => {
      expertIndex[r * k + choice] = expert;
      expertWeight[r * k + choice] = terms[expert]! / total;
    });
  }
}

/** See `Ops.groupByExpert`. */
export function groupByExpert(
  args: {
    expertIndex: Int32Array;
    experts: number;
    expertStart: Int32Array;
    groupedPair: Int32Array;
    pairPlace: Int32Array;
  },
): void {
  const { expertIndex, experts, expertStart, groupedPair, pairPlace } = args;
  let place = 0;
  for (let expert = 0; expert < experts; expert++) {
    expertStart[expert] = place;
    expertIndex.forEach((chosen, pair) => {
      if (chosen !== expert) return;
      groupedPair[place] = pair;
      pairPlace[pair] = place++;
    });
  }
  expertStart[experts] = place;
  assert(place === expertIndex.length, `an expert index is outside [0, ${experts})`);
}

/** See `Ops.combineRows`. */
export function combineRows(
  args: {
    input: Float32Array;
    pairPlace: Int32Array;
    expertWeight: Float32Array;
    choices: number;
    width: number;
    out: Float32Array;
  },
): void {
  const { input, pairPlace, expertWeight, choices, width, out } = args;
  const rowCount = out.length / width;
  for (let r = 0; r < rowCount; r++) {
    const pairs = Array.from({ length: choices }, (_, choice) => r * choices + choice)
      .sort((a, b) => pairPlace[a]! - pairPlace[b]!);
    for (let i = 0; i < width; i++) {
      let sum = 0;
      for (const pair of pairs) sum += expertWeight[pair]! * input[pairPlace[pair]! * width + i]!;
      out[r * width + i] = sum;
    }
  }
}
