/** Kernels of single values and of norms over rows. */
import type { Kernel } from "../kernel.ts";
import { divide, errorFunction, exponential, linear, squareRoot } from "./numeric.ts";

const SIZE = 64;
/** Invocations of a workgroup of the kernels that take one value each. */
export const VALUE_GROUP = SIZE;
/** Invocations that share one row of a norm. */
export const NORM_SIZE = 128;

const open = /* wgsl */ `${linear}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);
  if (i >= p.count) { return; }`;

/** `gated(gate, up)`: silu(gate) * up. Needs `exponential` and `divide`. */
export const gated = /* wgsl */ `
fn gated(gate: f32, up: f32) -> f32 { return divide(gate, 1.0 + exponential(-gate)) * up; }`;

export const swiglu: Kernel = {
  name: "swiglu",
  tensors: { gate: { type: "f32" }, up: { type: "f32" }, out: { type: "f32", written: true } },
  numbers: { count: "u32" },
  body: `${exponential}${divide}${gated}${open}
  out_set(i, gated(gate_at(i), up_at(i)));
}`,
};

export const gelu: Kernel = {
  name: "gelu",
  tensors: { input: { type: "f32" }, out: { type: "f32", written: true } },
  numbers: { count: "u32" },
  body: `${exponential}${divide}${errorFunction}${open}
  let x = input_at(i);
  let size = abs(x);
  out_set(i, max(x, 0.0) - size * 0.5 * erfc_positive(min(size * 0.70710678, 16.0)));
}`,
};

export const add: Kernel = {
  name: "add",
  tensors: { left: { type: "f32" }, right: { type: "f32" }, out: { type: "f32", written: true } },
  numbers: { count: "u32", rightCount: "u32" },
  body: `${open}
  out_set(i, left_at(i) + right_at(i % p.rightCount));
}`,
};

/** Sum over the workgroup in a fixed order, the same for all rows of this width. */
export const groupSum = /* wgsl */ `
var<workgroup> partial: array<f32, ${NORM_SIZE}>;
fn group_sum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  partial[local] = value;
  for (var step = ${NORM_SIZE / 2}u; step > 0u; step = step / 2u) {
    workgroupBarrier();
    if (local < step) { partial[local] = partial[local] + partial[local + step]; }
  }
  workgroupBarrier();
  return partial[0];
}`;

const openRow = /* wgsl */ `${groupSum}${divide}${squareRoot}
@compute @workgroup_size(${NORM_SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.rows) { return; }
  let start = row * p.width;`;

const strided = (statement: string) =>
  `for (var i = local; i < p.width; i += ${NORM_SIZE}u) { ${statement} }`;

export const rmsNorm: Kernel = {
  name: "rmsNorm",
  tensors: { input: { type: "f32" }, weight: { type: "f32" }, out: { type: "f32", written: true } },
  numbers: { rows: "u32", width: "u32", epsilon: "f32" },
  body: `${openRow}
  var squares = 0.0;
  ${strided("let x = input_at(start + i); squares = fma(x, x, squares);")}
  let root = square_root(divide(group_sum(squares, local), f32(p.width)) + p.epsilon);
  ${strided("out_set(start + i, divide(input_at(start + i), root) * weight_at(i));")}
}`,
};

export const layerNorm: Kernel = {
  name: "layerNorm",
  tensors: {
    input: { type: "f32" },
    weight: { type: "f32" },
    bias: { type: "f32" },
    out: { type: "f32", written: true },
  },
  numbers: { rows: "u32", width: "u32", epsilon: "f32" },
  body: `${openRow}
  var sum = 0.0;
  ${strided("sum += input_at(start + i);")}
  let mean = divide(group_sum(sum, local), f32(p.width));
  var squares = 0.0;
  ${strided("let x = input_at(start + i) - mean; squares = fma(x, x, squares);")}
  let root = square_root(divide(group_sum(squares, local), f32(p.width)) + p.epsilon);
  ${
    strided(
      "let x = divide(input_at(start + i) - mean, root); out_set(start + i, fma(x, weight_at(i), bias_at(i)));",
    )
  }
}`,
};
