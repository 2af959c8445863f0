/** Kernels of mixture-of-experts bookkeeping: gate, counting sort, combination. */
import type { Kernel } from "../kernel.ts";
import { divide, exponential, linear } from "./numeric.ts";

const SIZE = 64;
export const EXPERT_GROUP = SIZE;
/** Experts whose logits one workgroup holds. */
export const EXPERTS_MAX = 1024;
const SORT_SIZE = 256;

/** One row per workgroup: an expert's rank is the number of experts before it. */
export const gateTopK: Kernel = {
  name: "gateTopK",
  tensors: {
    logits: { type: "f32" },
    expert: { type: "i32", written: true },
    weight: { type: "f32", written: true },
  },
  numbers: { rows: "u32", experts: "u32", choices: "u32", normalize: "u32" },
  body: `${exponential}${divide}
var<workgroup> logits: array<f32, ${EXPERTS_MAX}>;
var<workgroup> terms: array<f32, ${EXPERTS_MAX}>;
var<workgroup> chosen: array<u32, ${EXPERTS_MAX}>;
var<workgroup> total: f32;
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }
  for (var e = local; e < p.experts; e += ${SIZE}u) { logits[e] = logits_at(row * p.experts + e); }
  workgroupBarrier();
  var largest = logits[0];
  for (var e = 1u; e < p.experts; e++) { largest = max(largest, logits[e]); }
  for (var e = local; e < p.experts; e += ${SIZE}u) {
    let own = logits[e];
    terms[e] = exponential(own - largest);
    var rank = 0u;
    for (var other = 0u; other < p.experts; other++) {
      let value = logits[other];
      if (value > own || (value == own && other < e)) { rank++; }
    }
    if (rank < p.choices) { chosen[rank] = e; }
  }
  workgroupBarrier();
  if (local == 0u) {
    var sum = 0.0;
    if (p.normalize == 1u) {
      for (var c = 0u; c < p.choices; c++) { sum += terms[chosen[c]]; }
    } else {
      for (var e = 0u; e < p.experts; e++) { sum += terms[e]; }
    }
    total = sum;
  }
  workgroupBarrier();
  for (var c = local; c < p.choices; c += ${SIZE}u) {
    expert_set(row * p.choices + c, i32(chosen[c]));
    weight_set(row * p.choices + c, divide(terms[chosen[c]], total));
  }
}`,
};

/** One workgroup; each expert belongs to one invocation, which walks the pairs in order. */
export const groupByExpert: Kernel = {
  name: "groupByExpert",
  tensors: {
    expert: { type: "i32" },
    start: { type: "i32", written: true },
    grouped: { type: "i32", written: true },
    place: { type: "i32", written: true },
  },
  numbers: { pairs: "u32", experts: "u32" },
  body: `
var<workgroup> counts: array<atomic<u32>, ${EXPERTS_MAX + 1}>;
var<workgroup> starts: array<u32, ${EXPERTS_MAX + 1}>;
@compute @workgroup_size(${SORT_SIZE})
fn main(@builtin(local_invocation_index) local: u32) {
  for (var e = local; e < p.experts; e += ${SORT_SIZE}u) { atomicStore(&counts[e], 0u); }
  workgroupBarrier();
  for (var i = local; i < p.pairs; i += ${SORT_SIZE}u) {
    atomicAdd(&counts[u32(expert_at(i))], 1u);
  }
  workgroupBarrier();
  if (local == 0u) {
    var sum = 0u;
    for (var e = 0u; e < p.experts; e++) {
      starts[e] = sum;
      sum += atomicLoad(&counts[e]);
    }
    starts[p.experts] = sum;
  }
  workgroupBarrier();
  for (var e = local; e <= p.experts; e += ${SORT_SIZE}u) {
    var next = starts[e];
    start_set(e, i32(next));
    if (e == p.experts || atomicLoad(&counts[e]) == 0u) { continue; }
    for (var i = 0u; i < p.pairs; i++) {
      if (u32(expert_at(i)) == e) {
        grouped_set(next, i32(i));
        place_set(i, i32(next));
        next++;
      }
    }
  }
}`,
};

/** One value per invocation; choices are added in ascending place. */
export const combineRows: Kernel = {
  name: "combineRows",
  tensors: {
    input: { type: "f32" },
    place: { type: "i32" },
    weight: { type: "f32" },
    out: { type: "f32", written: true },
  },
  numbers: { count: "u32", width: "u32", choices: "u32" },
  body: `${linear}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);
  if (i >= p.count) { return; }
  let first = i / p.width * p.choices;
  var sum = 0.0;
  var last = -1;
  for (var c = 0u; c < p.choices; c++) {
    var best = first;
    var lowest = 2147483647;
    for (var other = first; other < first + p.choices; other++) {
      let candidate = place_at(other);
      if (candidate > last && candidate < lowest) { lowest = candidate; best = other; }
    }
    last = lowest;
    sum = fma(weight_at(best), input_at(u32(lowest) * p.width + i % p.width), sum);
  }
  out_set(i, sum);
}`,
};
