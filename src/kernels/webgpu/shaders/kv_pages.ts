/** Where keys and values lie in the pages of a cache, the kernel that stores them, and how kernels read them. */
import type { KvFormat } from "../../backend.ts";
import type { Kernel } from "../kernel.ts";
import { divide, half, linear, toCode } from "./numeric.ts";

export const KV_GROUP = 64;

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
 * What kernels need to read pages: `token_place(sequence, token)`, the word where the token's key
 * row of `kv_head` begins; `key_word`, `value_word` and, for formats with scales,
 * `key_scale` and `value_scale` of a place.
 */
export function pageAccess(format: KvFormat): string {
  const scales = `
fn scale_place(place: u32) -> u32 {
  let token = place % p.headWords / p.rowWords;
  return place - token * p.rowWords + 2u * p.pageTokens * p.rowWords + token;
}
fn key_scale(place: u32) -> f32 { return bitcast<f32>(cache_at(scale_place(place))); }
fn value_scale(place: u32) -> f32 {
  return bitcast<f32>(cache_at(scale_place(place) + p.pageTokens));
}`;
  return `
var<private> kv_head: u32;
fn token_place(sequence: u32, token: u32) -> u32 {
  let page = u32(pageTable_at(sequence * p.sequencePages + token / p.pageTokens));
  return (page * p.kvHeads + kv_head) * p.headWords + token % p.pageTokens * p.rowWords;
}
fn key_word(place: u32, word: u32) -> u32 { return cache_at(place + word); }
fn value_word(place: u32, word: u32) -> u32 {
  return cache_at(place + p.pageTokens * p.rowWords + word);
}${format === "q8" ? scales : ""}`;
}

/** `word_value(word, j)`: element j of a word, without scale. */
export function wordValue(format: KvFormat): string {
  const body = {
    f32: "bitcast<f32>(word)",
    f16: "unpack2x16float(word)[j]",
    q8: "f32(extractBits(bitcast<i32>(word), 8u * j, 8u))",
  }[format];
  return `
fn word_value(word: u32, j: u32) -> f32 { return ${body}; }`;
}

/** Numbers of the kernels that store rows in pages. */
export const storingNumbers = {
  kvHeads: "u32",
  headWidth: "u32",
  headWords: "u32",
  rowWords: "u32",
  pageTokens: "u32",
  perWord: "u32",
} as const;

/**
 * `store_key(head_row, word)` and `store_value(head_row, word)`: one word of a head's row to where
 * `slot` says. Needs `half_bits`, `divide` and `to_code`.
 */
export function storeRows(format: KvFormat): string {
  const side = (source: string, offset: string, scale: string) => `
fn store_${source}(head_row: u32, word: u32) {
  let slot_number = slot_at(head_row / p.kvHeads);
  if (slot_number < 0) { return; }
  let page = u32(slot_number) / p.pageTokens;
  let token = u32(slot_number) % p.pageTokens;
  let base = (page * p.kvHeads + head_row % p.kvHeads) * p.headWords;
  let first = head_row * p.headWidth;
  let element = word * p.perWord;
  ${format === "q8" ? scaleOf(source, scale) : ""}
  cache_set(${offset} + word, ${wordOf(format, source)});
}`;
  const scales = "base + 2u * p.pageTokens * p.rowWords + token";
  return side("key", "base + token * p.rowWords", scales) +
    side("value", "base + (p.pageTokens + token) * p.rowWords", `${scales} + p.pageTokens`);
}

function scaleOf(source: string, place: string): string {
  return `
  var largest = 0.0;
  for (var d = 0u; d < p.headWidth; d++) { largest = max(largest, abs(${source}_at(first + d))); }
  var inverse = 0.0;
  if (largest > 0.0) { inverse = divide(127.0, largest); }
  if (word == 0u) { cache_set(${place}, bitcast<u32>(divide(largest, 127.0))); }`;
}

/** The bits of one stored word. */
function wordOf(format: KvFormat, source: string): string {
  if (format === "f32") return `bitcast<u32>(${source}_at(first + element))`;
  const part = (j: number) => {
    const inside = `element + ${j}u < p.headWidth`;
    const value = `${source}_at(first + element + ${j}u)`;
    return format === "f16"
      ? `(select(0u, half_bits(${value}), ${inside}) << ${16 * j}u)`
      : `(select(0u, u32(to_code(${value}, inverse)) & 255u, ${inside}) << ${8 * j}u)`;
  };
  return Array.from({ length: headRowElements(format) }, (_, j) => part(j)).join(" | ");
}

/** One word of keys and of values per invocation. */
export function writeKv(format: KvFormat): Kernel {
  return {
    name: `writeKv-${format}`,
    tensors: {
      key: { type: "f32" },
      value: { type: "f32" },
      slot: { type: "i32" },
      cache: { type: "u32", written: true },
    },
    numbers: { count: "u32", ...storingNumbers },
    body: `${linear}${half}${divide}${toCode}${storeRows(format)}
@compute @workgroup_size(${KV_GROUP})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${KV_GROUP}u);
  if (i >= p.count) { return; }
  store_key(i / p.rowWords, i % p.rowWords);
  store_value(i / p.rowWords, i % p.rowWords);
}`,
  };
}
