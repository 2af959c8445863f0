/** Drawing tokens from logits: adjustments, mask, temperature, top-k, top-p, min-p, draw. */
import { assert } from "@/assert.ts";

/** Columns of the `params` tensor. */
const PARAM = { temperature: 0, topK: 1, topP: 2, minP: 3, uniform: 4, forcedId: 5, maskIndex: 6 };
export const PARAM_COLUMNS = 8;

export interface SampleViews {
  readonly logits: Float32Array;
  readonly vocabularySize: number;
  readonly params: Float32Array;
  readonly mask: Int32Array;
  readonly adjustStart: Int32Array;
  readonly adjustToken: Int32Array;
  readonly adjustPenalty: Float32Array;
  readonly adjustAdd: Float32Array;
  readonly id: Int32Array;
  readonly logprob: Float32Array;
  readonly candidateId: Int32Array;
  readonly candidateLogprob: Float32Array;
}

/** See `Ops.sample`. A row whose mask allows nothing gets id -1 and log-probability -Infinity. */
export function sample(views: SampleViews): void {
  const { vocabularySize, id, logprob } = views;
  for (let r = 0; r < id.length; r++) {
    const logits = views.logits.subarray(r * vocabularySize, (r + 1) * vocabularySize);
    const logTotal = logSumExp(logits);
    const original = logits.slice();
    writeCandidates(views, { row: r, logits, logTotal });
    const params = views.params.subarray(r * PARAM_COLUMNS, (r + 1) * PARAM_COLUMNS);
    applyAdjustments(views, r, logits);
    applyMask(views.mask, params[PARAM.maskIndex]!, logits);
    const forced = params[PARAM.forcedId]!;
    assert(forced < vocabularySize, `forced id ${forced} of ${vocabularySize}`);
    id[r] = forced >= 0 ? forced : choose(logits, params);
    logprob[r] = id[r]! < 0 ? -Infinity : original[id[r]!]! - logTotal;
  }
}

function logSumExp(logits: Float32Array): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - largest);
  return largest + Math.log(total);
}

/** Ids by descending value, ties by ascending id. */
function sortedIds(values: Float32Array | Float64Array, ids: Iterable<number>): Int32Array {
  return Int32Array.from(ids).sort((a, b) => values[b]! - values[a]! || a - b);
}

/** The largest logits as they came from the model; entries beyond the vocabulary are -1. */
function writeCandidates(
  views: SampleViews,
  args: { row: number; logits: Float32Array; logTotal: number },
): void {
  const { row, logits, logTotal } = args;
  const count = views.candidateId.length / views.id.length;
  const largest = largestIds(logits, Math.min(count, logits.length));
  for (let c = 0; c < count; c++) {
    const id = largest[c];
    views.candidateId[row * count + c] = id ?? -1;
    views.candidateLogprob[row * count + c] = id === undefined ? -Infinity : logits[id]! - logTotal;
  }
}

/** The `count` ids with the largest values, in sorted order, by insertion. */
function largestIds(values: Float32Array, count: number): number[] {
  const ids: number[] = [];
  for (let id = 0; id < values.length && count > 0; id++) {
    if (ids.length === count && !(values[id]! > values[ids[count - 1]!]!)) continue;
    let place = Math.min(ids.length, count - 1);
    for (; place > 0 && values[ids[place - 1]!]! < values[id]!; place--) {
      ids[place] = ids[place - 1]!;
    }
    ids[place] = id;
  }
  return ids;
}

function applyAdjustments(views: SampleViews, row: number, logits: Float32Array): void {
  const { adjustStart, adjustToken, adjustPenalty, adjustAdd } = views;
  for (let a = adjustStart[row]!; a < adjustStart[row + 1]!; a++) {
    const token = adjustToken[a]!;
    assert(token >= 0 && token < logits.length, `adjusted token ${token} of ${logits.length}`);
    const logit = logits[token]!;
    const penalty = adjustPenalty[a]!;
    const penalized = Math.fround(logit > 0 ? logit / penalty : logit * penalty);
    logits[token] = penalized + adjustAdd[a]!;
  }
}

function applyMask(mask: Int32Array, maskIndex: number, logits: Float32Array): void {
  if (maskIndex < 0) return;
  const firstWord = maskIndex * Math.ceil(logits.length / 32);
  for (let id = 0; id < logits.length; id++) {
    const word = mask[firstWord + (id >> 5)]!;
    if ((word >>> (id & 31) & 1) === 0) logits[id] = -Infinity;
  }
}

/** The chosen id, or -1 when every logit is -Infinity. */
function choose(logits: Float32Array, params: Float32Array): number {
  const [best] = largestIds(logits, 1);
  if (best === undefined || logits[best] === -Infinity) return -1;
  const temperature = params[PARAM.temperature]!;
  if (temperature === 0) return best;
  const terms = Float64Array.from(logits, (v) => Math.exp((v - logits[best]!) / temperature));
  return draw(keptIds(terms, params), terms, params[PARAM.uniform]!);
}

/** Ids that survive top-k, top-p and min-p, in the order of the draw. */
function keptIds(terms: Float64Array, params: Float32Array): Int32Array {
  const topK = params[PARAM.topK]!;
  const topP = params[PARAM.topP]!;
  let kept: Int32Array = Int32Array.from(terms.keys());
  if (topK > 0 || topP < 1) kept = sortedIds(terms, kept);
  if (topK > 0) kept = kept.slice(0, topK);
  if (topP < 1) kept = kept.slice(0, nucleusSize(kept, terms, topP));
  const smallest = params[PARAM.minP]!; // terms are relative to the largest, which is 1
  return kept.filter((id) => terms[id]! >= smallest);
}

/** How many of the sorted ids it takes to reach `topP` of their total; at least one. */
function nucleusSize(sorted: Int32Array, terms: Float64Array, topP: number): number {
  let total = 0;
  for (const id of sorted) total += terms[id]!;
  let sum = 0;
  for (const [index, id] of sorted.entries()) {
    sum += terms[id]!;
    if (sum >= topP * total) return index + 1;
  }
  return sorted.length;
}

/** Inverse-CDF draw over `ids` in their order; impossible ids are never drawn. */
function draw(ids: Int32Array, terms: Float64Array, uniform: number): number {
  let total = 0;
  for (const id of ids) total += terms[id]!;
  let sum = 0;
  let last = -1;
  for (const id of ids) {
    if (terms[id] === 0) continue;
    sum += terms[id]!;
    last = id;
    if (sum > uniform * total) break;
  }
  return last;
}
