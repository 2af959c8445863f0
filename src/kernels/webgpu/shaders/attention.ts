/**
 * Attention: keys in chunks of one per invocation, with a running maximum, in ascending order of
 * tokens, so that a row's result depends on that row alone.
 */
import type { KvFormat } from "../../backend.ts";
import type { Kernel } from "../kernel.ts";
import { divide, exponential, half, linear, toCode } from "./numeric.ts";

const SIZE = 64;
/** Widest head: what each invocation keeps, times the workgroup. */
export const HEAD_WIDTH_MAX = 256;

export const ATTENTION_GROUP = SIZE;

/** Elements of one word of a stored head row. */
export function headRowElements(format: KvFormat): number {
  return { f32: 1, f16: 2, q8: 4 }[format];
}

/** Words of a stored head row; rows begin at whole words, and rest elements are zero. */
export function headRowWords(format: KvFormat, headWidth: number): number {
  return Math.ceil(headWidth / headRowElements(format));
}

/**
 * Words of a page of one kv head: keys [tokens][row], values [tokens][row], and in q8 the scales
 * of keys and of values [tokens].
 */
export function headPageWords(
  format: KvFormat,
  shape: { headWidth: number; pageTokens: number },
): number {
  const rows = 2 * shape.pageTokens * headRowWords(format, shape.headWidth);
  return rows + (format === "q8" ? 2 * shape.pageTokens : 0);
}

/**
 * The loop over chunks of keys. Needs \`key_dot(token, query start)\`, \`value_at(token, d)\`
 * with the scale in it, \`token_place(t)\` for what both of them take, and numbers \`headWidth\`
 * and \`scale\`.
 */
const attend = /* wgsl */ `
var<workgroup> query_row: array<f32, ${HEAD_WIDTH_MAX}>;
var<workgroup> weights: array<f32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;
fn attend(start: u32, count: u32, base: u32, local: u32) {
  for (var d = local; d < p.headWidth; d += ${SIZE}u) { query_row[d] = query_at(start + d); }
  var outs: array<f32, ${HEAD_WIDTH_MAX / SIZE}>;
  for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) { outs[j] = 0.0; }
  var largest = -3.0e38;
  var total = 0.0;
  for (var first = 0u; first < count; first += ${SIZE}u) {
    let tokens = min(${SIZE}u, count - first);
    workgroupBarrier();
    if (local < tokens) {
      let place = token_place(base, first + local);
      places[local] = place;
      weights[local] = key_dot(place) * p.scale;
    }
    workgroupBarrier();
    var peak = largest;
    for (var t = 0u; t < tokens; t++) { peak = max(peak, weights[t]); }
    let shrink = exponential(largest - peak);
    largest = peak;
    workgroupBarrier();
    if (local < tokens) { weights[local] = exponential(weights[local] - peak); }
    workgroupBarrier();
    var sum = 0.0;
    for (var t = 0u; t < tokens; t++) { sum += weights[t]; }
    total = fma(total, shrink, sum);
    for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) {
      let d = local + ${SIZE}u * j;
      if (d >= p.headWidth) { break; }
      var acc = 0.0;
      for (var t = 0u; t < tokens; t++) { acc = fma(weights[t], value_at(places[t], d), acc); }
      outs[j] = fma(outs[j], shrink, acc);
    }
  }
  for (var j = 0u; j < ${HEAD_WIDTH_MAX / SIZE}u; j++) {
    let d = local + ${SIZE}u * j;
    if (d >= p.headWidth) { break; }
    if (count == 0u) { out_set(start + d, 0.0); }
    else { out_set(start + d, divide(outs[j], total)); }
  }
}`;

const floatDot = (key: string) => /* wgsl */ `
  var dot = 0.0;
  for (var d = 0u; d < p.headWidth; d++) { dot = fma(query_row[d], ${key}, dot); }`;

/** \`key_dot\` and \`value_at\` of pages; a place is the word where the token's key row begins. */
function pageAccess(format: KvFormat): string {
  const element = (base: string) => {
    if (format === "f32") return `bitcast<f32>(cache_at(${base} + d))`;
    if (format === "f16") return `unpack2x16float(cache_at(${base} + d / 2u))[d % 2u]`;
    return `f32(extractBits(bitcast<i32>(cache_at(${base} + d / 4u)), 8u * (d % 4u), 8u))`;
  };
  const valueBase = "place + p.pageTokens * p.rowWords";
  const scaled = format === "q8";
  return `
fn token_place(sequence: u32, token: u32) -> u32 {
  let page = u32(pageTable_at(sequence * p.sequencePages + token / p.pageTokens));
  return (page * p.kvHeads + kv_head) * p.headWords + token % p.pageTokens * p.rowWords;
}
fn scale_of(place: u32) -> vec2<f32> {
  let token = place % p.headWords / p.rowWords;
  let first = place - token * p.rowWords + 2u * p.pageTokens * p.rowWords + token;
  return vec2<f32>(bitcast<f32>(cache_at(first)), bitcast<f32>(cache_at(first + p.pageTokens)));
}
fn key_dot(place: u32) -> f32 {${floatDot(element("place"))}
  return dot${scaled ? " * scale_of(place).x" : ""};
}
fn value_at(place: u32, d: u32) -> f32 {
  return ${element(valueBase)}${scaled ? " * scale_of(place).y" : ""};
}`;
}

const openHead = /* wgsl */ `
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let index = group.y * groups.x + group.x;
  if (index >= p.rows * p.heads) { return; }
  let row = index / p.heads;
  let head = index % p.heads;`;

/** One head of one row per workgroup. */
export function pagedAttention(format: KvFormat): Kernel {
  return {
    name: `attention-${format}`,
    tensors: {
      query: { type: "f32" },
      cache: { type: "u32" },
      sequence: { type: "i32" },
      length: { type: "i32" },
      pageTable: { type: "i32" },
      out: { type: "f32", written: true },
    },
    numbers: {
      rows: "u32",
      heads: "u32",
      kvHeads: "u32",
      headWidth: "u32",
      headWords: "u32",
      rowWords: "u32",
      pageTokens: "u32",
      sequencePages: "u32",
      scale: "f32",
    },
    body: `${exponential}${divide}
var<private> kv_head: u32;
var<workgroup> row_length: u32;
${pageAccess(format)}${attend}${openHead}
  kv_head = head / (p.heads / p.kvHeads);
  if (local == 0u) { row_length = u32(length_at(row)); }
  let count = workgroupUniformLoad(&row_length);
  attend(index * p.headWidth, count, u32(sequence_at(row)), local);
}`,
  };
}

/** One head of one row per workgroup, over the rows of its segment. */
export const segmentAttention: Kernel = {
  name: "segmentAttention",
  tensors: {
    query: { type: "f32" },
    key: { type: "f32" },
    value: { type: "f32" },
    out: { type: "f32", written: true },
  },
  numbers: { rows: "u32", heads: "u32", headWidth: "u32", segmentRows: "u32", scale: "f32" },
  body: `${exponential}${divide}
fn token_place(base: u32, token: u32) -> u32 { return base + token * p.heads * p.headWidth; }
fn key_dot(place: u32) -> f32 {${floatDot("key_at(place + d)")}
  return dot;
}
fn value_of(place: u32, d: u32) -> f32 { return value_at(place + d); }
${attend.replaceAll("value_at(", "value_of(")}${openHead}
  let first = row - row % p.segmentRows;
  attend(index * p.headWidth, p.segmentRows, (first * p.heads + head) * p.headWidth, local);
}`,
};

/** One word of keys and of values per invocation. */
export function writeKv(format: KvFormat): Kernel {
  const scaled = format === "q8";
  const store = (source: string) => {
    if (format === "f32") return `bitcast<u32>(${source}_at(first + element))`;
    const part = (j: number) => {
      const inside = `element + ${j}u < p.headWidth`;
      const value = `${source}_at(first + element + ${j}u)`;
      return format === "f16"
        ? `(select(0u, half_bits(${value}), ${inside}) << ${16 * j}u)`
        : `(select(0u, u32(to_code(${value}, inverse)) & 255u, ${inside}) << ${8 * j}u)`;
    };
    return Array.from({ length: format === "f16" ? 2 : 4 }, (_, j) => part(j)).join(" | ");
  };
  const side = (source: string, offset: string, scale: string) => `
  {
    ${
    scaled
      ? `var largest = 0.0;
    for (var d = 0u; d < p.headWidth; d++) { largest = max(largest, abs(${source}_at(first + d))); }
    var inverse = 0.0;
    if (largest > 0.0) { inverse = divide(127.0, largest); }
    if (word == 0u) { cache_set(${scale}, bitcast<u32>(divide(largest, 127.0))); }`
      : ""
  }
    cache_set(${offset}, ${store(source)});
  }`;
  return {
    name: `writeKv-${format}`,
    tensors: {
      key: { type: "f32" },
      value: { type: "f32" },
      slot: { type: "i32" },
      cache: { type: "u32", written: true },
    },
    numbers: {
      count: "u32",
      kvHeads: "u32",
      headWidth: "u32",
      headWords: "u32",
      rowWords: "u32",
      pageTokens: "u32",
      perWord: "u32",
    },
    body: `${linear}${half}${divide}${toCode}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);
  if (i >= p.count) { return; }
  let word = i % p.rowWords;
  let head_row = i / p.rowWords;
  let head = head_row % p.kvHeads;
  let slot_number = slot_at(head_row / p.kvHeads);
  if (slot_number < 0) { return; }
  let page = u32(slot_number) / p.pageTokens;
  let token = u32(slot_number) % p.pageTokens;
  let base = (page * p.kvHeads + head) * p.headWords;
  let scales = base + 2u * p.pageTokens * p.rowWords + token;
  let first = head_row * p.headWidth;
  let element = word * p.perWord;
  ${side("key", "base + token * p.rowWords + word", "scales")}
  ${side("value", "base + (p.pageTokens + token) * p.rowWords + word", "scales + p.pageTokens")}
}`,
  };
}
