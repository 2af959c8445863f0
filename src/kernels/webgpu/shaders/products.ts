/**
 * Products with packed weights. The order of every sum is the same in all kernels, so that a row
 * gives the same bits alone and in a batch, in `vectors.ts` (few rows) and `tiles.ts` (many):
 * columns come in groups of 32; lane l of 32 adds the groups l, l + 32, … in ascending order and
 * columns in ascending order inside a group; the lanes are added in ascending order. In quantised
 * formats a group is one term. This file has what both share, and the rounding of activations.
 */
import type { MatrixFormat } from "../../backend.ts";
import { isQuantised } from "../../matrix_layout.ts";
import type { Kernel, TensorUse } from "../kernel.ts";
import { divide, linear, toCode } from "./numeric.ts";

const SIZE = 64;
export const QUANTIZE_GROUP = SIZE;
/** Lanes of every sum; part of the numeric class. */
export const LANES = 32;

/** 32-bit words of a row's quantised group; scale and sum of codes lie elsewhere. */
export const CODE_WORDS = 8;

/** Where rounded activations go, in every kernel that rounds. */
export const codeTensors = {
  codes: { type: "u32", written: true },
  codeScale: { type: "f32", written: true },
  codeSum: { type: "i32", written: true },
} as const satisfies Readonly<Record<string, TensorUse>>;

/**
 * `quantize_group(i, start, width)`: the group i of 32 columns, whose `width` values begin at
 * element `start` of the tensor `source`. Needs `divide` and `to_code`.
 */
export const quantizeGroup = (source: string): string => /* wgsl */ `
fn quantize_group(i: u32, start: u32, width: u32) {
  var largest = 0.0;
  for (var k = 0u; k < width; k++) { largest = max(largest, abs(${source}_at(start + k))); }
  var inverse = 0.0;
  if (largest > 0.0) { inverse = divide(127.0, largest); }
  var total = 0;
  for (var word = 0u; word < 8u; word++) {
    var packed = 0u;
    for (var j = 0u; j < 4u; j++) {
      let k = 4u * word + j;
      if (k < width) {
        let code = to_code(${source}_at(start + k), inverse);
        total += code;
        packed |= (u32(code) & 255u) << (8u * j);
      }
    }
    codes_set(8u * i + word, packed);
  }
  codeScale_set(i, divide(largest, 127.0));
  codeSum_set(i, total);
}`;

/** Activations to int8 codes with a float32 scale and the sum of the codes, per group of 32. */
export const quantizeRows: Kernel = {
  name: "quantizeRows",
  tensors: { input: { type: "f32" }, ...codeTensors },
  numbers: { count: "u32", columns: "u32", groups: "u32" },
  body: `${linear}${divide}${toCode}${quantizeGroup("input")}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);
  if (i >= p.count) { return; }
  let column = 32u * (i % p.groups);
  quantize_group(i, i / p.groups * p.columns + column, min(32u, p.columns - column));
}`,
};

/** Whether places of a product are sorted by expert, and where their input rows are. */
export type Routing = "none" | "place" | "pair";

/** Tensors of every product: inputs as the format wants them, weight, routing, bias, output. */
export function productTensors(
  options: { format: MatrixFormat; bias?: boolean; routing: Routing },
): Readonly<Record<string, TensorUse>> {
  const { format, bias, routing } = options;
  return {
    ...(isQuantised(format)
      ? { codes: { type: "u32" }, codeScale: { type: "f32" }, codeSum: { type: "i32" } } as const
      : { input: { type: "f32" } } as const),
    weight: { type: "vec4u" },
    ...(routing !== "none" && { start: { type: "i32" } as const }),
    ...(routing === "pair" && { pair: { type: "i32" } as const }),
    ...(bias && { bias: { type: "f32" } as const }),
    out: { type: "f32", written: true },
  };
}

/**
 * Numbers of every product. A block holds panels [firstPanel, firstPanel + panels) of all experts'
 * panels; `width` columns of output, `rows` rows (or places).
 */
export const productNumbers = {
  rows: "u32",
  columns: "u32",
  groups: "u32",
  panelVectors: "u32",
  width: "u32",
  experts: "u32",
  expertPanels: "u32",
  firstPanel: "u32",
  panels: "u32",
  choices: "u32",
} as const;

/** \`input_row(place)\`. */
export function inputRow(routing: Routing): string {
  const row = routing === "pair" ? "u32(pair_at(place)) / p.choices" : "place";
  return `fn input_row(place: u32) -> u32 { return ${row}; }\n`;
}

/** \`expert_of(place)\`: the last expert that starts at or before the place. */
export const expertOf = /* wgsl */ `
fn expert_of(place: u32) -> u32 {
  var low = 0u;
  var high = p.experts;
  while (high - low > 1u) {
    let middle = (low + high) / 2u;
    if (u32(start_at(middle)) <= place) { low = middle; } else { high = middle; }
  }
  return low;
}`;

/** Vectors of 16 bytes in a panel's group of 32 columns: scales first in quantised formats. */
export const groupVectors: Readonly<Record<MatrixFormat, number>> = {
  f32: 64,
  bf16: 32,
  f16: 32,
  q8: 17,
  q4: 9,
};

/** `weights_of(base, k, side)`, and `stored_of` as narrow as workgroup memory can keep them. */
export function floatWeights(format: "f32" | "bf16" | "f16"): string {
  const [stored, narrow] = format === "f16" ? ["half4", "half4_of"] : ["vec4<f32>", ""];
  return `alias stored4 = ${stored};
fn stored_of(base: u32, k: u32, side: u32) -> stored4 {
  return ${narrow}(weights_of(base, k, side));
}
${fourWeights(format, "weight")}`;
}

/**
 * `<tensor>s_of(base, k, side)`: four rows (0-3 or 4-7) of column k of the panel at vector `base`
 * of the tensor.
 */
export function fourWeights(format: "f32" | "bf16" | "f16", tensor: string): string {
  const open = `fn ${tensor}s_of(base: u32, k: u32, side: u32) -> vec4<f32> {`;
  if (format === "f32") {
    return `${open} return bitcast<vec4<f32>>(${tensor}_at(base + 2u * k + side)); }\n`;
  }
  const decode = format === "f16"
    ? "vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y))"
    : "vec4<f32>(bitcast<f32>(pair.x << 16u), bitcast<f32>(pair.x & 0xffff0000u), " +
      "bitcast<f32>(pair.y << 16u), bitcast<f32>(pair.y & 0xffff0000u))";
  return `${open}
  let all = ${tensor}_at(base + k);
  let pair = select(all.xy, all.zw, side == 1u);
  return ${decode};
}
`;
}

/** `scales_of(all, side)` of the vector that a group begins with. */
export const weightScales = /* wgsl */ `
fn scales_of(all: vec4<u32>, side: u32) -> vec4<f32> {
  let pair = select(all.xy, all.zw, side == 1u);
  return vec4<f32>(bitcast<f32>(pair.x << 16u), bitcast<f32>(pair.x & 0xffff0000u),
    bitcast<f32>(pair.y << 16u), bitcast<f32>(pair.y & 0xffff0000u));
}`;
