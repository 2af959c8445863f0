/**
 * Norms together with what stands around them in a decoder layer: the residual sum before, rounding
 * for the product after; of heads, rotary positions and the way into the cache. They write every
 * tensor that the single kernels would, with the same bits.
 */
import type { KvFormat } from "../../backend.ts";
import type { Kernel } from "../kernel.ts";
import { groupSum, NORM_SIZE } from "./elementwise.ts";
import { storeRows, storingNumbers } from "./kv_pages.ts";
import { divide, half, squareRoot, toCode } from "./numeric.ts";
import { codeTensors, quantizeGroup } from "./products.ts";

const openRow = /* wgsl */ `
@compute @workgroup_size(${NORM_SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let number = group.y * groups.x + group.x;`;

/** The root mean square norm of a row; with `adds` of left + right, which goes to `total` too. */
export function jointNorm({ adds, rounds }: { adds: boolean; rounds: boolean }): Kernel {
  const input = adds ? "total" : "input";
  const written = { type: "f32", written: true } as const;
  return {
    name: `jointNorm-${adds ? "adds" : ""}-${rounds ? "rounds" : ""}`,
    tensors: {
      ...(adds
        ? { left: { type: "f32" }, right: { type: "f32" }, total: written } as const
        : { input: { type: "f32" } } as const),
      weight: { type: "f32" },
      out: written,
      ...(rounds && codeTensors),
    },
    numbers: { rows: "u32", width: "u32", groups: "u32", epsilon: "f32" },
    body: `${groupSum}${divide}${squareRoot}${rounds ? toCode + quantizeGroup("out") : ""}${openRow}
  if (number >= p.rows) { return; }
  let start = number * p.width;
  ${
      adds
        ? `for (var i = start + local; i < start + p.width; i += ${NORM_SIZE}u) {
    total_set(i, left_at(i) + right_at(i));
  }`
        : ""
    }
  var squares = 0.0;
  for (var i = local; i < p.width; i += ${NORM_SIZE}u) {
    let x = ${input}_at(start + i);
    squares = fma(x, x, squares);
  }
  let root = square_root(divide(group_sum(squares, local), f32(p.width)) + p.epsilon);
  for (var i = local; i < p.width; i += ${NORM_SIZE}u) {
    out_set(start + i, divide(${input}_at(start + i), root) * weight_at(i));
  }
  ${
      rounds
        ? `storageBarrier();
  for (var g = local; g < p.groups; g += ${NORM_SIZE}u) {
    quantize_group(number * p.groups + g, start + 32u * g, min(32u, p.width - 32u * g));
  }`
        : ""
    }
}`,
  };
}

/** Norm and rotary positions of one head's row, in place. */
const rotated = (tensor: string) => `
fn rotate_${tensor}(head_row: u32, row: u32, local: u32) {
  let start = head_row * p.headWidth;
  var squares = 0.0;
  for (var i = local; i < p.headWidth; i += ${NORM_SIZE}u) {
    let x = ${tensor}_at(start + i);
    squares = fma(x, x, squares);
  }
  let root = square_root(divide(group_sum(squares, local), f32(p.headWidth)) + p.epsilon);
  for (var i = local; i < p.headWidth; i += ${NORM_SIZE}u) {
    ${tensor}_set(start + i, divide(${tensor}_at(start + i), root) * ${tensor}Norm_at(i));
  }
  storageBarrier();
  let width = p.headWidth / 2u;
  for (var d = local; d < width; d += ${NORM_SIZE}u) {
    let angle = u32(position_at(row)) * p.headWidth + d;
    let cosine = table_at(angle);
    let sine = table_at(angle + width);
    let a = ${tensor}_at(start + d);
    let b = ${tensor}_at(start + width + d);
    ${tensor}_set(start + d, fma(a, cosine, -(b * sine)));
    ${tensor}_set(start + width + d, fma(b, cosine, a * sine));
  }
}`;

/**
 * Norm and rotary positions of queries and keys, in place, and storing of keys and values. Workgroups:
 * heads of rows, first of queries, then of keys, whose workgroups store the values as well.
 */
export function rotateHeads(format: KvFormat): Kernel {
  return {
    name: `rotateHeads-${format}`,
    tensors: {
      query: { type: "f32", written: true },
      key: { type: "f32", written: true },
      value: { type: "f32" },
      queryNorm: { type: "f32" },
      keyNorm: { type: "f32" },
      position: { type: "i32" },
      table: { type: "f32" },
      slot: { type: "i32" },
      cache: { type: "u32", written: true },
    },
    numbers: { rows: "u32", heads: "u32", epsilon: "f32", ...storingNumbers },
    body: `${groupSum}${half}${divide}${squareRoot}${toCode}${storeRows(format)}
${rotated("query")}${rotated("key")}${openRow}
  let queries = p.rows * p.heads;
  if (number >= queries + p.rows * p.kvHeads) { return; }
  if (number < queries) {
    rotate_query(number, number / p.heads, local);
    return;
  }
  let head_row = number - queries;
  rotate_key(head_row, head_row / p.kvHeads, local);
  storageBarrier();
  for (var word = local; word < p.rowWords; word += ${NORM_SIZE}u) {
    store_key(head_row, word);
    store_value(head_row, word);
  }
}`,
  };
}
