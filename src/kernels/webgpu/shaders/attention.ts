/**
 * Attention row by row: one head of one row per workgroup, keys in chunks of one per invocation.
 * For few rows; long ones are cut into spans that workgroups compute apart and one merges. Many
 * rows of one sequence share what they read in `attention_tiles.ts`. Sums: `softmax_sums.ts`.
 */
import type { KvFormat } from "../../backend.ts";
import type { Kernel, TensorUse } from "../kernel.ts";
import { headRowElements, pageAccess, wordValue } from "./kv_pages.ts";
import { divide, exponential, toCode } from "./numeric.ts";
import { codeTensors, quantizeGroup } from "./products.ts";
import { CHUNK_TOKENS, LEAST, mergeSpans, SPAN_TOKENS } from "./softmax_sums.ts";

const SIZE = CHUNK_TOKENS;
/** Widest head: what each invocation keeps, times the workgroup. */
export const HEAD_WIDTH_MAX = 256;

/** The largest score so far, as an integer that grows with it. */
const peakKey = /* wgsl */ `
var<workgroup> peak_key: atomic<u32>;
fn key_of(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return select(bits ^ 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn value_of_key(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key ^ 0x80000000u, (key >> 31u) == 1u));
}`;

/**
 * \`attend(index, start, count, base, span, local)\`: one span of a row. Needs \`token_place\`,
 * \`key_word\`, \`value_word\`, \`word_value\`, perhaps scales, and \`finish\`.
 */
function attend({ elements, scaled }: { elements: number; scaled: boolean }): string {
  return /* wgsl */ `
var<workgroup> query_row: array<f32, ${HEAD_WIDTH_MAX}>;
var<workgroup> weights: array<f32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;
${peakKey}
fn key_dot(place: u32) -> f32 {
  var dot = 0.0;
  for (var d = 0u; d < p.headWidth; d++) {
    let key = word_value(key_word(place, d / ${elements}u), d % ${elements}u);
    dot = fma(query_row[d], key, dot);
  }
  return dot${scaled ? " * key_scale(place)" : ""};
}
fn value_of(place: u32, d: u32) -> f32 {
  let value = word_value(value_word(place, d / ${elements}u), d % ${elements}u);
  return value${scaled ? " * value_scale(place)" : ""};
}
fn attend(index: u32, count: u32, base: u32, span: u32, local: u32) {
  let start = index * p.headWidth;
  for (var d = local; d < p.headWidth; d += ${SIZE}u) { query_row[d] = query_at(start + d); }
  var outs: array<f32, ${HEAD_WIDTH_MAX / SIZE}>;
  for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) { outs[j] = 0.0; }
  var largest = ${LEAST};
  var total = 0.0;
  let end = min(count, ${SPAN_TOKENS}u * span + ${SPAN_TOKENS}u);
  for (var first = ${SPAN_TOKENS}u * span; first < end; first += ${SIZE}u) {
    let tokens = min(${SIZE}u, end - first);
    workgroupBarrier();
    if (local == 0u) { atomicStore(&peak_key, key_of(largest)); }
    var score = ${LEAST};
    if (local < tokens) {
      let place = token_place(base, first + local);
      places[local] = place;
      score = key_dot(place) * p.scale;
    }
    workgroupBarrier();
    let most = lanes_max(score);
    if (lanes_speaker()) { atomicMax(&peak_key, key_of(most)); }
    workgroupBarrier();
    let peak = value_of_key(atomicLoad(&peak_key));
    let shrink = exponential(largest - peak);
    largest = peak;
    if (local < tokens) { weights[local] = exponential(score - peak); }
    workgroupBarrier();
    var sum = 0.0;
    for (var t = 0u; t < tokens; t++) { sum += weights[t]; }
    total = fma(total, shrink, sum);
    for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) {
      let d = local + ${SIZE}u * j;
      if (d >= p.headWidth) { break; }
      var acc = 0.0;
      for (var t = 0u; t < tokens; t++) { acc = fma(weights[t], value_of(places[t], d), acc); }
      outs[j] = fma(outs[j], shrink, acc);
    }
  }
  for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) {
    let d = local + ${SIZE}u * j;
    if (d >= p.headWidth) { break; }
    finish(index, span, d, outs[j], vec2<f32>(largest, total));
  }
}`;
}

/** \`finish\` of rows of one span. */
const finishRow = /* wgsl */ `
fn finish(index: u32, span: u32, d: u32, sum: f32, state: vec2<f32>) {
  let merged = merge_spans(vec2<f32>(${LEAST}, 0.0), state);
  var value = 0.0;
  if (merged.total != 0.0) { value = divide(merge_sum(0.0, sum, merged), merged.total); }
  out_set(index * p.headWidth + d, value);
}`;

/** \`finish\` of spans: sums, then (largest, total). */
const finishSpan = /* wgsl */ `
fn finish(index: u32, span: u32, d: u32, sum: f32, state: vec2<f32>) {
  let base = (index * p.spans + span) * (p.headWidth + 2u);
  partial_set(base + d, sum);
  if (d < 2u) { partial_set(base + p.headWidth + d, state[d]); }
}`;

const rounding = toCode + quantizeGroup("out");

const openHead = /* wgsl */ `
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let number = group.y * groups.x + group.x;
  let index = number / p.spans;
  if (index >= p.rows * p.heads) { return; }
  let row = index / p.heads;
  let head = index % p.heads;`;

/** Tensors and numbers of attention over pages, whatever computes it. */
export const pagedTensors = {
  query: { type: "f32" },
  cache: { type: "u32" },
  sequence: { type: "i32" },
  length: { type: "i32" },
  pageTable: { type: "i32" },
} as const satisfies Readonly<Record<string, TensorUse>>;

export const pagedNumbers = {
  rows: "u32",
  heads: "u32",
  kvHeads: "u32",
  headWidth: "u32",
  headWords: "u32",
  rowWords: "u32",
  pageTokens: "u32",
  sequencePages: "u32",
  scale: "f32",
} as const;

/** Rounds the head's row that the workgroup wrote; heads are whole groups. */
const roundHead = /* wgsl */ `
  storageBarrier();
  let head_groups = p.headWidth / 32u;
  if (local < head_groups) {
    quantize_group(index * head_groups + local, index * p.headWidth + 32u * local, 32u);
  }`;

/**
 * Workgroups: spans of heads of rows. With `split` their sums go to `partial`, with `rounds` the
 * output is also rounded for the product that follows.
 */
export function pagedAttention(
  format: KvFormat,
  { split, rounds }: { split: boolean; rounds: boolean },
): Kernel {
  const access = { elements: headRowElements(format), scaled: format === "q8" };
  return {
    name: `attention-${format}${split ? "-split" : ""}${rounds ? "-rounds" : ""}`,
    tensors: {
      ...pagedTensors,
      [split ? "partial" : "out"]: { type: "f32", written: true },
      ...(rounds && codeTensors),
    },
    numbers: { ...pagedNumbers, spans: "u32" },
    body: `${exponential}${divide}${mergeSpans}
var<workgroup> row_length: u32;
${pageAccess(format)}${wordValue(format)}${split ? finishSpan : finishRow}${
      rounds ? rounding : ""
    }${attend(access)}${openHead}
  kv_head = head / (p.heads / p.kvHeads);
  if (local == 0u) { row_length = u32(length_at(row)); }
  let count = workgroupUniformLoad(&row_length);
  let span = number % p.spans;
  if (span > 0u && span * ${SPAN_TOKENS}u >= count) { return; }
  attend(index, count, u32(sequence_at(row)), span, local);${rounds ? roundHead : ""}
}`,
  };
}

/** Merges the spans of each head of each row, of `count` tokens. */
const merging = (count: string, rounds = false): string =>
  `${exponential}${divide}${mergeSpans}${rounds ? rounding : ""}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows * p.heads) { return; }
  let count = ${count};
  for (var d = local; d < p.headWidth; d += ${SIZE}u) {
    var state = vec2<f32>(${LEAST}, 0.0);
    var sum = 0.0;
    for (var span = 0u; span * ${SPAN_TOKENS}u < count; span++) {
      let base = (index * p.spans + span) * (p.headWidth + 2u);
      let width = base + p.headWidth;
      let merged = merge_spans(state, vec2<f32>(partial_at(width), partial_at(width + 1u)));
      sum = merge_sum(sum, partial_at(base + d), merged);
      state = vec2<f32>(merged.largest, merged.total);
    }
    var value = 0.0;
    if (state.y != 0.0) { value = divide(sum, state.y); }
    out_set(index * p.headWidth + d, value);
  }${rounds ? roundHead : ""}
}`;

export function mergeAttention({ rounds }: { rounds: boolean }): Kernel {
  return {
    name: `mergeAttention${rounds ? "-rounds" : ""}`,
    tensors: {
      partial: { type: "f32" },
      length: { type: "i32" },
      out: { type: "f32", written: true },
      ...(rounds && codeTensors),
    },
    numbers: { rows: "u32", heads: "u32", headWidth: "u32", spans: "u32" },
    body: merging("u32(length_at(index / p.heads))", rounds),
  };
}

export const mergeSegments: Kernel = {
  name: "mergeSegments",
  tensors: { partial: { type: "f32" }, out: { type: "f32", written: true } },
  numbers: { rows: "u32", heads: "u32", headWidth: "u32", spans: "u32", segmentRows: "u32" },
  body: merging("p.segmentRows"),
};

export const segmentTensors = {
  query: { type: "f32" },
  key: { type: "f32" },
  value: { type: "f32" },
} as const satisfies Readonly<Record<string, TensorUse>>;

export const segmentNumbers = {
  rows: "u32",
  heads: "u32",
  headWidth: "u32",
  segmentRows: "u32",
  scale: "f32",
} as const;

/** Access to the rows of a segment as \`pageAccess\` has it to pages. */
export const segmentAccess = /* wgsl */ `
fn key_word(place: u32, word: u32) -> u32 { return bitcast<u32>(key_at(place + word)); }
fn value_word(place: u32, word: u32) -> u32 { return bitcast<u32>(value_at(place + word)); }
${wordValue("f32")}`;

/** Workgroups: spans of heads of rows, over the rows of their segment. */
export function segmentAttention({ split }: { split: boolean }): Kernel {
  return {
    name: `segmentAttention${split ? "-split" : ""}`,
    tensors: { ...segmentTensors, [split ? "partial" : "out"]: { type: "f32", written: true } },
    numbers: { ...segmentNumbers, spans: "u32" },
    body: `${exponential}${divide}${mergeSpans}
fn token_place(base: u32, token: u32) -> u32 { return base + token * p.heads * p.headWidth; }
${segmentAccess}${split ? finishSpan : finishRow}${
      attend({ elements: 1, scaled: false })
    }${openHead}
  let first = (row - row % p.segmentRows) * p.heads + head;
  attend(index, p.segmentRows, first * p.headWidth, number % p.spans, local);
}`,
  };
}
