/**
 * Sampling, one row per workgroup. Candidates are compared as pairs (key, id): the key orders
 * float32 values as integers, higher ids come later among equals. Everything is found by walking
 * down the digits of that pair: the k-th candidate, the one where the nucleus is full, and the one
 * that is drawn. Probabilities are summed as fixed-point integers (33 bits below the largest),
 * where the order of adding cannot matter.
 */
import type { Kernel } from "../kernel.ts";
import { divide, exponential, logarithm } from "./numeric.ts";

const SIZE = 256;
const CANDIDATES_MAX = 64;

/** Key 0 is what may not be chosen; minus infinity has a key above it. */
const keys = /* wgsl */ `
const forbidden = 0u;
const infinite_key = 0x007fffffu;
fn key_of(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return forbidden; }
  if (bits == 0x80000000u) { return bits; }
  return select(bits ^ 0x80000000u, ~bits, bits >> 31u == 1u);
}
fn value_of(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key ^ 0x80000000u, key >> 31u == 1u));
}`;

/** Unsigned 64-bit numbers as (low, high). */
const wide = /* wgsl */ `
fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}
fn wide_more(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y > b.y || (a.y == b.y && a.x > b.x);
}
fn wide_less_one(a: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - 1u, a.y - select(0u, 1u, a.x == 0u));
}
/** a times a factor below 2^12; a is below 2^52. */
fn wide_times(a: vec2<u32>, factor: u32) -> vec2<u32> {
  let low = (a.x & 0xffffu) * factor;
  let middle = (a.x >> 16u) * factor;
  let first = wide_add(vec2<u32>(low, a.y * factor), vec2<u32>(middle << 16u, middle >> 16u));
  return first;
}
fn wide_down_12(a: vec2<u32>) -> vec2<u32> {
  return vec2<u32>((a.x >> 12u) | (a.y << 20u), a.y >> 12u);
}
/** a * fraction for a fraction in [0, 1), rounded down, or up. */
fn wide_part(a: vec2<u32>, fraction: f32, up: bool) -> vec2<u32> {
  let f = u32(fraction * 16777216.0);
  let lower = wide_times(a, f & 0xfffu);
  let sum = wide_add(wide_times(a, f >> 12u), wide_down_12(lower));
  let part = wide_down_12(sum);
  let is_exact = (lower.x & 0xfffu) == 0u && (sum.x & 0xfffu) == 0u;
  if (up && !is_exact) { return wide_add(part, vec2<u32>(1u, 0u)); }
  return part;
}
/** Three sums of 11-bit digits as one number. */
fn wide_of(digits: vec3<u32>) -> vec2<u32> {
  let upper = vec2<u32>(digits.x << 22u, digits.x >> 10u);
  let middle = vec2<u32>(digits.y << 11u, digits.y >> 21u);
  return wide_add(wide_add(upper, middle), vec2<u32>(digits.z, 0u));
}`;

/**
 * \`locate(goal, by_id, counted)\`: the first candidate, descending, at which the running sum of
 * counts or masses exceeds the goal. Leaves it in found_key and found_id. With by_id candidates
 * come in ascending order of ids. Needs \`item_key(id)\` and \`item_mass(id, key)\`.
 */
const locate = /* wgsl */ `
const id_top = 0x00ffffffu;
var<workgroup> bins: array<array<atomic<u32>, 4>, ${SIZE}>;
var<workgroup> running: array<vec2<u32>, ${SIZE}>;
var<workgroup> found_bin: u32;
var<workgroup> found_count: u32;
var<workgroup> found_base: vec2<u32>;
var<workgroup> found_key: u32;
var<workgroup> found_id: u32;
fn has_prefix(key: u32, nid: u32, digit: u32, prefix: vec2<u32>, by_id: bool) -> bool {
  if (digit < 4u) { return digit == 0u || ((key ^ prefix.x) >> (32u - 8u * digit)) == 0u; }
  if (!by_id && key != prefix.x) { return false; }
  return ((nid ^ prefix.y) >> (56u - 8u * digit)) == 0u;
}
fn locate(goal: vec2<u32>, by_id: bool, counted: bool, local: u32) {
  var prefix = vec2<u32>(0u, 0u);
  var base = vec2<u32>(0u, 0u);
  var digit = select(0u, 4u, by_id);
  for (; digit < 7u; digit++) {
    for (var j = 0u; j < 4u; j++) { atomicStore(&bins[local][j], 0u); }
    if (local == 0u) { found_bin = 0u; found_count = 0u; found_base = base; }
    workgroupBarrier();
    for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
      let key = item_key(id);
      let nid = id_top - id;
      if (key == forbidden || !has_prefix(key, nid, digit, prefix, by_id)) { continue; }
      let shift = select(48u - 8u * digit, 24u - 8u * digit, digit < 4u);
      let bin = (select(nid, key, digit < 4u) >> shift) & 255u;
      atomicAdd(&bins[bin][3], 1u);
      if (!counted) {
        let mass = item_mass(id, key);
        if (mass.x > 0u) { atomicAdd(&bins[bin][0], mass.x); }
        if (mass.y > 0u) { atomicAdd(&bins[bin][1], mass.y); }
        if (mass.z > 0u) { atomicAdd(&bins[bin][2], mass.z); }
      }
    }
    workgroupBarrier();
    // Bin 255 - local: running sums from the highest bin down.
    let bin = 255u - local;
    let count = atomicLoad(&bins[bin][3]);
    var own = vec2<u32>(count, 0u);
    if (!counted) {
      own = wide_of(vec3<u32>(atomicLoad(&bins[bin][0]), atomicLoad(&bins[bin][1]),
        atomicLoad(&bins[bin][2])));
    }
    var sum = own;
    running[local] = sum;
    for (var reach = 1u; reach < ${SIZE}u; reach = reach * 2u) {
      workgroupBarrier();
      var other = vec2<u32>(0u, 0u);
      if (local >= reach) { other = running[local - reach]; }
      workgroupBarrier();
      sum = wide_add(sum, other);
      running[local] = sum;
    }
    workgroupBarrier();
    var before = base;
    if (local > 0u) { before = wide_add(base, running[local - 1u]); }
    if (wide_more(wide_add(base, sum), goal) && !wide_more(before, goal)) {
      found_bin = bin;
      found_count = count;
      found_base = before;
    }
    workgroupBarrier();
    let bin_found = workgroupUniformLoad(&found_bin);
    base = workgroupUniformLoad(&found_base);
    if (digit < 4u) { prefix.x |= bin_found << (24u - 8u * digit); }
    else { prefix.y |= bin_found << (48u - 8u * digit); }
    if (workgroupUniformLoad(&found_count) <= 1u) { digit++; break; }
  }
  // The one candidate that has these digits.
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
    let key = item_key(id);
    if (key == forbidden || !has_prefix(key, id_top - id, digit, prefix, by_id)) { continue; }
    found_key = key;
    found_id = id;
  }
  workgroupBarrier();
}`;

/** \`best_item(local)\`: the first candidate of all, in found_key and found_id. */
const best = /* wgsl */ `
var<workgroup> best_keys: array<u32, ${SIZE}>;
var<workgroup> best_ids: array<u32, ${SIZE}>;
fn best_item(local: u32) {
  var key = forbidden;
  var chosen = 0u;
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
    let other = item_key(id);
    if (other > key) { key = other; chosen = id; }
  }
  best_keys[local] = key;
  best_ids[local] = chosen;
  for (var reach = ${SIZE / 2}u; reach > 0u; reach = reach / 2u) {
    workgroupBarrier();
    if (local < reach) {
      let other = best_keys[local + reach];
      let is_first = best_ids[local + reach] < best_ids[local];
      if (other > best_keys[local] || (other == best_keys[local] && is_first)) {
        best_keys[local] = other;
        best_ids[local] = best_ids[local + reach];
      }
    }
  }
  workgroupBarrier();
  if (local == 0u) { found_key = best_keys[0]; found_id = best_ids[0]; }
  workgroupBarrier();
}`;

const openRow = /* wgsl */ `
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  row = group.x;
  row_start = group.x * p.vocabulary;`;

/** Log of the sum of exponentials of each row, and its most likely ids, both unmodified. */
export const candidates: Kernel = {
  name: "sampleCandidates",
  tensors: {
    logits: { type: "u32" },
    logTotal: { type: "f32", written: true },
    id: { type: "i32", written: true },
    logprob: { type: "u32", written: true },
  },
  numbers: { vocabulary: "u32", candidates: "u32" },
  body: `${exponential}${logarithm}${keys}${wide}
var<private> row: u32;
var<private> row_start: u32;
fn item_key(id: u32) -> u32 { return key_of(logits_at(row_start + id)); }
fn item_mass(id: u32, key: u32) -> vec3<u32> { return vec3<u32>(0u, 0u, 0u); }
${locate}${best}
var<workgroup> sums: array<f32, ${SIZE}>;
var<workgroup> largest: f32;
var<workgroup> log_total: f32;
var<workgroup> broken: atomic<u32>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list_keys: array<u32, ${CANDIDATES_MAX}>;
var<workgroup> list_ids: array<u32, ${CANDIDATES_MAX}>;
fn log_sum(local: u32) {
  if (local == 0u) { largest = value_of(found_key); }
  workgroupBarrier();
  var total = 0.0;
  for (var first = local; first < p.vocabulary; first += ${32 * SIZE}u) {
    var part = 0.0;
    for (var id = first; id < min(p.vocabulary, first + ${32 * SIZE}u); id += ${SIZE}u) {
      let bits = logits_at(row_start + id);
      if (key_of(bits) == forbidden) { atomicStore(&broken, 1u); }
      else if (key_of(bits) > infinite_key) { part += exponential(bitcast<f32>(bits) - largest); }
    }
    total += part;
  }
  sums[local] = total;
  for (var reach = ${SIZE / 2}u; reach > 0u; reach = reach / 2u) {
    workgroupBarrier();
    if (local < reach) { sums[local] = sums[local] + sums[local + reach]; }
  }
  workgroupBarrier();
  if (local == 0u) {
    log_total = largest + logarithm(sums[0]);
    if (atomicLoad(&broken) == 1u) { log_total = bitcast<f32>(0x7fc00000u + sums_zero()); }
    logTotal_set(row, log_total);
  }
  workgroupBarrier();
}
/** Zero, which no compiler knows: a constant NaN is an error in WGSL. */
fn sums_zero() -> u32 { return p.candidates >> 31u; }
fn list_set(place: u32, id: u32, key: u32) {
  id_set(row * p.candidates + place, i32(id));
  logprob_set(row * p.candidates + place, bitcast<u32>(value_of(key) - log_total));
}
${openRow}
  if (local == 0u) { atomicStore(&broken, 0u); atomicStore(&listed, 0u); }
  best_item(local);
  log_sum(local);
  let wanted = min(p.candidates, p.vocabulary);
  for (var c = wanted + local; c < p.candidates; c += ${SIZE}u) {
    id_set(row * p.candidates + c, -1);
    logprob_set(row * p.candidates + c, 0xff800000u);
  }
  if (wanted <= 1u) {
    if (local == 0u && wanted == 1u) { list_set(0u, found_id, found_key); }
    return;
  }
  locate(vec2<u32>(wanted - 1u, 0u), false, true, local);
  let last_key = found_key;
  let last_id = found_id;
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
    let key = item_key(id);
    if (key > last_key || (key == last_key && id <= last_id)) {
      let place = atomicAdd(&listed, 1u);
      if (place < ${CANDIDATES_MAX}u) { list_keys[place] = key; list_ids[place] = id; }
    }
  }
  workgroupBarrier();
  if (local < wanted) {
    let key = list_keys[local];
    let id = list_ids[local];
    var rank = 0u;
    for (var other = 0u; other < wanted; other++) {
      let is_before = list_keys[other] > key || (list_keys[other] == key && list_ids[other] < id);
      rank += select(0u, 1u, is_before);
    }
    list_set(rank, id, key);
  }
}`,
};

/** Keys of the logits after adjustments and mask. An invocation owns every 256th token. */
export const adjust: Kernel = {
  name: "sampleAdjust",
  tensors: {
    logits: { type: "f32" },
    keys: { type: "u32", written: true },
    params: { type: "f32" },
    mask: { type: "u32" },
    start: { type: "i32" },
    token: { type: "i32" },
    penalty: { type: "f32" },
    addend: { type: "f32" },
  },
  numbers: { vocabulary: "u32", maskWords: "u32" },
  body: `${divide}${keys}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.x * p.vocabulary;
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
    keys_set(first + id, key_of(bitcast<u32>(logits_at(first + id))));
  }
  for (var a = start_at(group.x); a < start_at(group.x + 1u); a++) {
    let id = u32(token_at(u32(a)));
    if (id % ${SIZE}u != local) { continue; }
    let logit = value_of(keys_at(first + id));
    let by = penalty_at(u32(a));
    var changed = logit * by;
    if (logit > 0.0) { changed = divide(logit, by); }
    keys_set(first + id, key_of(bitcast<u32>(changed + addend_at(u32(a)))));
  }
  let mask_index = params_at(8u * group.x + 6u);
  if (mask_index < 0.0) { return; }
  let words = u32(mask_index) * p.maskWords;
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) {
    let is_allowed = ((mask_at(words + id / 32u) >> (id % 32u)) & 1u) == 1u;
    if (!is_allowed) { keys_set(first + id, forbidden); }
  }
}`,
};

/** Chooses by the keys; the log-probability is that of the unmodified logits. */
export const choose: Kernel = {
  name: "sampleChoose",
  tensors: {
    keys: { type: "u32" },
    logits: { type: "f32" },
    logTotal: { type: "f32" },
    params: { type: "f32" },
    id: { type: "i32", written: true },
    logprob: { type: "u32", written: true },
  },
  numbers: { vocabulary: "u32" },
  body: `${exponential}${divide}${keys}${wide}
var<private> row: u32;
var<private> row_start: u32;
var<private> largest: f32;
var<private> temperature: f32;
var<private> min_p: f32;
/** The last candidate that is kept. */
var<private> last_key: u32;
var<private> last_id: u32;
fn item_key(id: u32) -> u32 { return keys_at(row_start + id); }
fn item_mass(id: u32, key: u32) -> vec3<u32> {
  if (key <= infinite_key || key < last_key || (key == last_key && id > last_id)) {
    return vec3<u32>(0u, 0u, 0u);
  }
  let term = exponential(divide(value_of(key) - largest, temperature));
  if (term < min_p) { return vec3<u32>(0u, 0u, 0u); }
  let upper = floor(term * 2048.0);
  let middle_rest = (term * 2048.0 - upper) * 2048.0;
  let middle = floor(middle_rest);
  return vec3<u32>(u32(upper), u32(middle), u32((middle_rest - middle) * 2048.0));
}
${locate}${best}
var<workgroup> totals: array<atomic<u32>, 3>;
var<workgroup> total_shared: vec2<u32>;
fn total_mass(local: u32) -> vec2<u32> {
  if (local < 3u) { atomicStore(&totals[local], 0u); }
  workgroupBarrier();
  var own = vec3<u32>(0u, 0u, 0u);
  for (var id = local; id < p.vocabulary; id += ${SIZE}u) { own += item_mass(id, item_key(id)); }
  for (var j = 0u; j < 3u; j++) { atomicAdd(&totals[j], own[j]); }
  workgroupBarrier();
  if (local == 0u) {
    total_shared = wide_of(vec3<u32>(atomicLoad(&totals[0]), atomicLoad(&totals[1]),
      atomicLoad(&totals[2])));
  }
  return workgroupUniformLoad(&total_shared);
}
var<workgroup> number: f32;
fn number_of(index: u32, local: u32) -> f32 {
  workgroupBarrier();
  if (local == 0u) { number = params_at(8u * row + index); }
  return workgroupUniformLoad(&number);
}
fn finish(chosen: i32, local: u32) {
  if (local != 0u) { return; }
  id_set(row, chosen);
  if (chosen < 0) { logprob_set(row, 0xff800000u); return; }
  logprob_set(row, bitcast<u32>(logits_at(row_start + u32(chosen)) - logTotal_at(row)));
}
fn keep_to_found(local: u32) {
  last_key = found_key;
  last_id = found_id;
  workgroupBarrier();
}
${openRow}
  let forced = number_of(5u, local);
  if (forced >= 0.0) { finish(i32(forced), local); return; }
  best_item(local);
  let best_key = workgroupUniformLoad(&found_key);
  if (best_key <= infinite_key) { finish(-1, local); return; }
  temperature = number_of(0u, local);
  if (number_of(0u, local) == 0.0) { finish(i32(found_id), local); return; }
  largest = value_of(best_key);
  last_key = infinite_key;
  last_id = id_none();
  min_p = 0.0;
  let top_k = number_of(1u, local);
  let top_p = number_of(2u, local);
  if (top_k > 0.0 && top_k < f32(p.vocabulary)) {
    locate(vec2<u32>(u32(top_k) - 1u, 0u), false, true, local);
    keep_to_found(local);
  }
  if (top_p < 1.0) {
    let needed = wide_part(total_mass(local), max(top_p, 0.0), true);
    let is_zero = needed.x == 0u && needed.y == 0u;
    locate(select(wide_less_one(needed), needed, is_zero), false, false, local);
    keep_to_found(local);
  }
  min_p = number_of(3u, local);
  let goal = wide_part(total_mass(local), number_of(4u, local), false);
  locate(goal, !(top_k > 0.0) && !(top_p < 1.0), false, local);
  finish(i32(found_id), local);
}
fn id_none() -> u32 { return 0xffffffffu; }`,
};
