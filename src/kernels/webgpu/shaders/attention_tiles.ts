/**
 * Attention of many rows: a workgroup takes sixteen (row, head) pairs that read one kv head, and
 * brings its keys and values into workgroup memory once for all of them (FlashAttention, Dao et al.
 * 2022, arXiv:2205.14135). Rows of one sequence are attended to together; a tile that rows of
 * several sequences share visits one sequence after the other. Sums: `softmax_sums.ts`, and so the
 * bits, are those of `attention.ts`.
 */
import type { KvFormat } from "../../backend.ts";
import type { Kernel } from "../kernel.ts";
import {
  pagedNumbers,
  pagedTensors,
  segmentAccess,
  segmentNumbers,
  segmentTensors,
} from "./attention.ts";
import { headRowElements, pageAccess, wordValue } from "./kv_pages.ts";
import { divide, exponential } from "./numeric.ts";
import { CHUNK_TOKENS, LEAST, mergeSpans, SPAN_TOKENS } from "./softmax_sums.ts";

const SIZE = 256;
/** (row, head) pairs of a workgroup: four groups of 64 invocations, with four pairs each. */
export const TILE_PAIRS = 16;
/** Columns of keys in workgroup memory at a time, for all tokens of a chunk … */
const KEY_COLUMNS = 32;
/** … and of values, for half of them. */
const VALUE_COLUMNS = 64;
const VALUE_TOKENS = 32;
/** One more than used, so that neighbouring tokens lie in different banks. */
const KEY_STRIDE = KEY_COLUMNS + 1;

interface Access {
  /** Elements of a stored word, and whether rows have scales. */
  readonly elements: number;
  readonly scaled: boolean;
  /** Slices of `VALUE_COLUMNS` in a head. */
  readonly slices: number;
}

const memory = /* wgsl */ `
var<workgroup> tile: array<f32, ${CHUNK_TOKENS * KEY_STRIDE}>;
var<workgroup> queries: array<vec4<f32>, ${KEY_COLUMNS * 4}>;
var<workgroup> weights: array<vec4<f32>, ${CHUNK_TOKENS * 4}>;
var<workgroup> places: array<u32, ${CHUNK_TOKENS}>;
var<workgroup> pair_base: array<u32, ${TILE_PAIRS}>;
var<workgroup> pair_count: array<u32, ${TILE_PAIRS}>;
var<workgroup> span_largest: array<f32, ${TILE_PAIRS}>;
var<workgroup> span_total: array<f32, ${TILE_PAIRS}>;
var<workgroup> shrink: array<f32, ${TILE_PAIRS}>;
var<workgroup> row_state: array<vec2<f32>, ${TILE_PAIRS}>;
var<workgroup> row_factor: array<f32, ${TILE_PAIRS}>;
var<workgroup> span_factor: array<f32, ${TILE_PAIRS}>;
var<workgroup> run: vec2<u32>;
fn four_pairs(pair: u32) -> vec4<u32> { return vec4<u32>(pair, pair + 1u, pair + 2u, pair + 3u); }`;

/** Puts keys [tokens][KEY_COLUMNS] and queries [KEY_COLUMNS][groups] of a slice in place. */
function loadKeys({ elements }: Access): string {
  const words = KEY_COLUMNS / elements;
  return /* wgsl */ `
      for (var i = local; i < ${CHUNK_TOKENS * words}u; i += ${SIZE}u) {
        let token = i / ${words}u;
        let word = ${words}u * slice + i % ${words}u;
        let at = token * ${KEY_STRIDE}u + i % ${words}u * ${elements}u;
        let is_there = first + token < longest && word < row_words;
        var bits = 0u;
        if (is_there) { bits = key_word(places[token], word); }
        for (var j = 0u; j < ${elements}u; j++) { tile[at + j] = word_value(bits, j); }
      }
      if (local < ${KEY_COLUMNS * 4}u) {
        let d = ${KEY_COLUMNS}u * slice + local % ${KEY_COLUMNS}u;
        let pair = 4u * (local / ${KEY_COLUMNS}u);
        var query = vec4<f32>(0.0);
        if (d < p.headWidth) {
          for (var j = 0u; j < 4u; j++) {
            if (pair_count[pair + j] > 0u) { query[j] = query_at(pair_start(pair + j) + d); }
          }
        }
        queries[4u * (local % ${KEY_COLUMNS}u) + local / ${KEY_COLUMNS}u] = query;
      }`;
}

/** Puts values [VALUE_TOKENS][VALUE_COLUMNS] from token \`part\` of the chunk on in place. */
function loadValues({ elements, scaled }: Access): string {
  const words = VALUE_COLUMNS / elements;
  return /* wgsl */ `
        for (var i = local; i < ${VALUE_TOKENS * words}u; i += ${SIZE}u) {
          let token = part + i / ${words}u;
          let word = ${words}u * slice + i % ${words}u;
          let at = i / ${words}u * ${VALUE_COLUMNS}u + i % ${words}u * ${elements}u;
          let is_there = first + token < longest && word < row_words;
          var bits = 0u;
          ${scaled ? "var scale = 0.0;" : ""}
          if (is_there) {
            bits = value_word(places[token], word);
            ${scaled ? "scale = value_scale(places[token]);" : ""}
          }
          for (var j = 0u; j < ${elements}u; j++) {
            tile[at + j] = word_value(bits, j)${scaled ? " * scale" : ""};
          }
        }`;
}

/** Scores of a chunk, their maximum so far, and weights. */
function weigh(access: Access): string {
  return /* wgsl */ `
    var dots = vec4<f32>(0.0);
    for (var slice = 0u; slice * ${KEY_COLUMNS}u < p.headWidth; slice++) {
      workgroupBarrier();${loadKeys(access)}
      workgroupBarrier();
      let columns = min(${KEY_COLUMNS}u, p.headWidth - ${KEY_COLUMNS}u * slice);
      for (var d = 0u; d < columns; d++) {
        dots = fma(queries[4u * d + side], vec4<f32>(tile[lane * ${KEY_STRIDE}u + d]), dots);
      }
    }
    let tokens = min(max(counts, vec4<u32>(first)) - vec4<u32>(first), vec4<u32>(${CHUNK_TOKENS}u));
    let is_on = vec4<u32>(lane) < tokens;
    ${
    access.scaled
      ? `var key_factor = 0.0;
    if (first + lane < longest) { key_factor = key_scale(places[lane]); }
    let scores = dots * key_factor * p.scale;`
      : "let scores = dots * p.scale;"
  }
    weights[local] = select(vec4<f32>(${LEAST}), scores, is_on);
    workgroupBarrier();
    let pair = local / 16u;
    var largest = ${LEAST};
    for (var t = local % 16u; t < ${CHUNK_TOKENS}u; t += 16u) {
      largest = max(largest, weights[pair / 4u * ${CHUNK_TOKENS}u + t][pair % 4u]);
    }
    tile[local] = largest;
    workgroupBarrier();
    if (local < ${TILE_PAIRS}u) {
      var peak = span_largest[local];
      for (var i = 0u; i < 16u; i++) { peak = max(peak, tile[16u * local + i]); }
      shrink[local] = exponential(span_largest[local] - peak);
      span_largest[local] = peak;
    }
    workgroupBarrier();
    let own = four_pairs(4u * side);
    // A bound that compilers do not see: unrolled, the exponential takes long to compile.
    for (var j = 0u; j < p.four; j++) {
      var weight = 0.0;
      if (is_on[j]) { weight = exponential(weights[local][j] - span_largest[4u * side + j]); }
      weights[local][j] = weight;
    }
    workgroupBarrier();
    if (local < ${TILE_PAIRS}u) {
      let count = pair_tokens(local, first, run_now);
      var sum = 0.0;
      for (var t = 0u; t < count; t++) {
        sum += weights[local / 4u * ${CHUNK_TOKENS}u + t][local % 4u];
      }
      if (count > 0u) { span_total[local] = fma(span_total[local], shrink[local], sum); }
    }`;
}

/** Adds a chunk's weighted values to the span's sums. */
function addValues(access: Access): string {
  return /* wgsl */ `
    let shrinks = vec4<f32>(shrink[own.x], shrink[own.y], shrink[own.z], shrink[own.w]);
    let is_whole = all(tokens == vec4<u32>(${CHUNK_TOKENS}u));
    for (var slice = 0u; slice < ${access.slices}u; slice++) {
      var acc = vec4<f32>(0.0);
      for (var part = 0u; part < ${CHUNK_TOKENS}u; part += ${VALUE_TOKENS}u) {
        if (first + part >= longest) { break; }
        workgroupBarrier();${loadValues(access)}
        workgroupBarrier();
        let base = ${CHUNK_TOKENS}u * side + part;
        if (is_whole) {
          for (var t = 0u; t < ${VALUE_TOKENS}u; t++) {
            acc = fma(weights[base + t], vec4<f32>(tile[${VALUE_COLUMNS}u * t + lane]), acc);
          }
        } else {
          for (var t = 0u; t < ${VALUE_TOKENS}u; t++) {
            let more = fma(weights[base + t], vec4<f32>(tile[${VALUE_COLUMNS}u * t + lane]), acc);
            acc = select(acc, more, vec4<u32>(part + t) < tokens);
          }
        }
      }
      let grown = fma(span_sums[slice], shrinks, acc);
      span_sums[slice] = select(span_sums[slice], grown, tokens > vec4<u32>(0u));
    }`;
}

/** Pairs [first, end) of one sequence, the longest count among them, and where its tokens lie. */
const findRun = /* wgsl */ `
/** Tokens of a pair in the chunk from \`first\` on, if it belongs to the run. */
fn pair_tokens(pair: u32, first: u32, run_now: vec2<u32>) -> u32 {
  if (pair < run_now.x || pair >= run_now.y) { return 0u; }
  return min(max(pair_count[pair], first) - first, ${CHUNK_TOKENS}u);
}
fn find_pairs(local: u32) {
  if (local < ${TILE_PAIRS}u) {
    pair_count[local] = 0u;
    pair_base[local] = 0u;
    row_state[local] = vec2<f32>(${LEAST}, 0.0);
    if (pair_exists(local)) {
      pair_count[local] = row_count(local);
      pair_base[local] = pair_sequence(local);
    }
  }
}
fn find_run(begin: u32) {
  var end = begin + 1u;
  var longest = pair_count[begin];
  while (end < ${TILE_PAIRS}u && pair_base[end] == pair_base[begin]) {
    longest = max(longest, pair_count[end]);
    end++;
  }
  run = vec2<u32>(end, longest);
}`;

/** Merges a span's sums into those of the rows that have tokens in it. */
const mergeSpan = /* wgsl */ `
      if (local < ${TILE_PAIRS}u && pair_tokens(local, span, run_now) > 0u) {
        let state = vec2<f32>(span_largest[local], span_total[local]);
        let merged = merge_spans(row_state[local], state);
        row_state[local] = vec2<f32>(merged.largest, merged.total);
        row_factor[local] = merged.row_factor;
        span_factor[local] = merged.span_factor;
      }
      workgroupBarrier();
      let four = four_pairs(4u * side);
      let by_row = vec4<f32>(row_factor[four.x], row_factor[four.y], row_factor[four.z],
        row_factor[four.w]);
      let by_span = vec4<f32>(span_factor[four.x], span_factor[four.y], span_factor[four.z],
        span_factor[four.w]);
      for (var slice = 0u; slice < SLICES; slice++) {
        let merged = fma(sums[slice], by_row, span_sums[slice] * by_span);
        sums[slice] = select(sums[slice], merged, counts > vec4<u32>(span));
      }`;

const writeRows = /* wgsl */ `
  for (var j = 0u; j < 4u; j++) {
    let pair = 4u * side + j;
    if (!pair_exists(pair)) { continue; }
    for (var slice = 0u; slice < SLICES; slice++) {
      let d = ${VALUE_COLUMNS}u * slice + lane;
      if (d >= p.headWidth) { continue; }
      var value = 0.0;
      let total = row_state[pair].y;
      if (total != 0.0) { value = divide(sums[slice][j], total); }
      out_set(pair_start(pair) + d, value);
    }
  }`;

/**
 * \`attend_tile(local, row_words)\`. Needs \`token_place(base, token)\`, word access,
 * \`pair_exists(pair)\`, \`pair_start\` (where its query and output row begins),
 * \`pair_sequence\` (the base of its tokens) and \`row_count\`.
 */
function attendTile(access: Access): string {
  return /* wgsl */ `const SLICES = ${access.slices}u;
${memory}${findRun}
fn attend_tile(local: u32, row_words: u32) {
  let side = local / ${CHUNK_TOKENS}u;
  let lane = local % ${CHUNK_TOKENS}u;
  find_pairs(local);
  var sums: array<vec4<f32>, SLICES>;
  var span_sums: array<vec4<f32>, SLICES>;
  for (var slice = 0u; slice < SLICES; slice++) { sums[slice] = vec4<f32>(0.0); }
  var begin = 0u;
  while (begin < ${TILE_PAIRS}u) {
    workgroupBarrier();
    if (local == 0u) { find_run(begin); }
    let found = workgroupUniformLoad(&run);
    let run_now = vec2<u32>(begin, found.x);
    let longest = found.y;
    let base = pair_base[begin];
    var counts = vec4<u32>(0u);
    for (var j = 0u; j < 4u; j++) {
      let pair = 4u * side + j;
      if (pair >= begin && pair < found.x) { counts[j] = pair_count[pair]; }
    }
    for (var span = 0u; span < longest; span += ${SPAN_TOKENS}u) {
      workgroupBarrier();
      if (local < ${TILE_PAIRS}u) {
        span_largest[local] = ${LEAST};
        span_total[local] = 0.0;
      }
      for (var slice = 0u; slice < SLICES; slice++) { span_sums[slice] = vec4<f32>(0.0); }
      let end = min(longest, span + ${SPAN_TOKENS}u);
      for (var first = span; first < end; first += ${CHUNK_TOKENS}u) {
        workgroupBarrier();
        if (local < ${CHUNK_TOKENS}u && first + local < longest) {
          places[local] = token_place(base, first + local);
        }${weigh(access)}${addValues(access)}
      }
      workgroupBarrier();${mergeSpan}
    }
    begin = found.x;
  }${writeRows}
}`;
}

const entry = /* wgsl */ `
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let number = group.y * groups.x + group.x;
  if (number >= p.workgroups) { return; }`;

function slicesOf(headWidth: number): number {
  return Math.ceil(headWidth / VALUE_COLUMNS);
}

/** Workgroups: kv heads of tiles of (row, head) pairs, heads of one row side by side. */
export function pagedTiles(format: KvFormat, headWidth: number): Kernel {
  const slices = slicesOf(headWidth);
  const access = { elements: headRowElements(format), scaled: format === "q8", slices };
  return {
    name: `attentionTiles-${format}-${slices}`,
    tensors: { ...pagedTensors, out: { type: "f32", written: true } },
    numbers: { ...pagedNumbers, workgroups: "u32", four: "u32" },
    body: `${exponential}${divide}${mergeSpans}
var<private> first_pair: u32;
${pageAccess(format)}${wordValue(format)}
fn sharing() -> u32 { return p.heads / p.kvHeads; }
fn pair_exists(pair: u32) -> bool { return first_pair + pair < p.rows * sharing(); }
fn pair_row(pair: u32) -> u32 { return (first_pair + pair) / sharing(); }
fn pair_start(pair: u32) -> u32 {
  let head = kv_head * sharing() + (first_pair + pair) % sharing();
  return (pair_row(pair) * p.heads + head) * p.headWidth;
}
fn pair_sequence(pair: u32) -> u32 { return u32(sequence_at(pair_row(pair))); }
fn row_count(pair: u32) -> u32 { return u32(length_at(pair_row(pair))); }
${attendTile(access)}${entry}
  kv_head = number % p.kvHeads;
  first_pair = number / p.kvHeads * ${TILE_PAIRS}u;
  attend_tile(local, p.rowWords);
}`,
  };
}

/** Workgroups: heads of tiles of rows. */
export function segmentTiles(headWidth: number): Kernel {
  const slices = slicesOf(headWidth);
  return {
    name: `segmentTiles-${slices}`,
    tensors: { ...segmentTensors, out: { type: "f32", written: true } },
    numbers: { ...segmentNumbers, workgroups: "u32", four: "u32" },
    body: `${exponential}${divide}${mergeSpans}
var<private> head: u32;
var<private> first_row: u32;
${segmentAccess}
fn token_place(base: u32, token: u32) -> u32 { return base + token * p.heads * p.headWidth; }
fn pair_exists(pair: u32) -> bool { return first_row + pair < p.rows; }
fn pair_start(pair: u32) -> u32 {
  return ((first_row + pair) * p.heads + head) * p.headWidth;
}
fn pair_sequence(pair: u32) -> u32 {
  let row = first_row + pair;
  return ((row - row % p.segmentRows) * p.heads + head) * p.headWidth;
}
fn row_count(pair: u32) -> u32 { return p.segmentRows; }
${attendTile({ elements: 1, scaled: false, slices })}${entry}
  head = number % p.heads;
  first_row = number / p.heads * ${TILE_PAIRS}u;
  attend_tile(local, p.headWidth);
}`,
  };
}
