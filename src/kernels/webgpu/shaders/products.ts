/**
 * Products with packed weights. The order of every sum is the same in all kernels here, so that a
 * row gives the same bits alone and in a batch: columns come in groups of 32; lane l of 32 adds the
 * groups l, l + 32, … in ascending order and columns in ascending order inside a group; the lanes
 * are added in ascending order. In quantised formats a group is one term.
 */
import type { MatrixFormat } from "../../backend.ts";
import type { QuantisedFormat } from "../../matrix_layout.ts";
import type { Kernel } from "../kernel.ts";
import { divide, linear, toCode } from "./numeric.ts";
import { groupWords, weightValue } from "./weights.ts";

const SIZE = 64;
export const PRODUCT_GROUP = SIZE;
/** Lanes of every sum; part of the numeric class. */
const LANES = 32;

/** Words of a row's quantised group: eight of codes. Scale and sum of codes lie elsewhere. */
export const CODE_WORDS = 8;

/** Activations to int8 codes with a float32 scale and the sum of the codes, per group of 32. */
export const quantizeRows: Kernel = {
  name: "quantizeRows",
  tensors: {
    input: { type: "f32" },
    codes: { type: "u32", written: true },
    scale: { type: "f32", written: true },
    sum: { type: "i32", written: true },
  },
  numbers: { count: "u32", columns: "u32", groups: "u32" },
  body: `${linear}${divide}${toCode}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);
  if (i >= p.count) { return; }
  let row = i / p.groups;
  let column = 32u * (i % p.groups);
  let width = min(32u, p.columns - column);
  let start = row * p.columns + column;
  var largest = 0.0;
  for (var k = 0u; k < width; k++) { largest = max(largest, abs(input_at(start + k))); }
  var inverse = 0.0;
  if (largest > 0.0) { inverse = divide(127.0, largest); }
  var total = 0;
  for (var word = 0u; word < 8u; word++) {
    var packed = 0u;
    for (var j = 0u; j < 4u; j++) {
      let k = 4u * word + j;
      if (k < width) {
        let code = to_code(input_at(start + k), inverse);
        total += code;
        packed |= (u32(code) & 255u) << (8u * j);
      }
    }
    codes_set(8u * i + word, packed);
  }
  scale_set(i, divide(largest, 127.0));
  sum_set(i, total);
}`,
};

/** Inputs of a product: plain values, or what \`quantizeRows\` made of them. */
const floatInput = { input: { type: "f32" } } as const;
const integerInput = {
  codes: { type: "u32" },
  scale: { type: "f32" },
  sum: { type: "i32" },
} as const;

/** \`term(base, lane, row, group, acc)\`: acc with one group of 32 columns added. */
function groupTerm(format: MatrixFormat): string {
  if (format !== "q8" && format !== "q4") {
    return `${weightValue(format, "weight")}
fn term(base: u32, lane: u32, row: u32, group: u32, acc: f32) -> f32 {
  var sum = acc;
  let end = min(p.columns, 32u * group + 32u);
  for (var k = 32u * group; k < end; k++) {
    sum = fma(input_at(row * p.columns + k), weight_value(base, lane, k), sum);
  }
  return sum;
}`;
  }
  return integerTerm(format);
}

function integerTerm(format: QuantisedFormat): string {
  const words = groupWords[format];
  const dot = format === "q8"
    ? `for (var i = 0u; i < 8u; i++) {
    dot += dot4I8Packed(weight_at(at + 8u * i), codes_at(8u * place + i));
  }`
    : `for (var i = 0u; i < 4u; i++) {
    let both = weight_at(at + 8u * i);
    dot += dot4I8Packed(both & 0x0f0f0f0fu, codes_at(8u * place + i));
    dot += dot4I8Packed((both >> 4u) & 0x0f0f0f0fu, codes_at(8u * place + 4u + i));
  }`;
  return `
fn term(base: u32, lane: u32, row: u32, group: u32, acc: f32) -> f32 {
  let start = base + ${words}u * group;
  let bits = (weight_at(start + lane / 2u) >> (16u * (lane % 2u))) << 16u;
  let at = start + 4u + lane;
  let place = row * p.groups + group;
  var dot = 0;
  ${dot}
  dot -= ${format === "q8" ? 64 : 8} * sum_at(place);
  // Not the product of the scales, which may be too small for a normal number.
  return fma(f32(dot) * bitcast<f32>(bits), scale_at(place), acc);
}`;
}

/** Sum over all groups in the order that the header tells. */
const lanesSum = /* wgsl */ `
fn product(base: u32, lane: u32, row: u32) -> f32 {
  var total = 0.0;
  for (var first = 0u; first < min(p.groups, ${LANES}u); first++) {
    var acc = 0.0;
    for (var group = first; group < p.groups; group += ${LANES}u) {
      acc = term(base, lane, row, group, acc);
    }
    total += acc;
  }
  return total;
}`;

function inputOf(format: MatrixFormat) {
  return format === "q8" || format === "q4" ? integerInput : floatInput;
}

const numbers = { columns: "u32", groups: "u32", panelWords: "u32", width: "u32" } as const;

/** One output value per invocation: columns of the block along x, rows along y. */
export function matmul(options: { format: MatrixFormat; bias: boolean }): Kernel {
  const { format, bias } = options;
  return {
    name: `matmul-${format}${bias ? "-bias" : ""}`,
    tensors: {
      ...inputOf(format),
      weight: { type: "u32" },
      ...(bias && { bias: { type: "f32" } as const }),
      out: { type: "f32", written: true },
    },
    numbers: { ...numbers, firstColumn: "u32", endColumn: "u32", firstRow: "u32" },
    body: `${groupTerm(format)}${lanesSum}
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = p.firstColumn + id.x;
  if (column >= p.endColumn) { return; }
  let row = p.firstRow + id.y;
  let value = product(id.x / 8u * p.panelWords, id.x % 8u, row);
  out_set(row * p.width + column, value${bias ? " + bias_at(column)" : ""});
}`,
  };
}

/**
 * One output value per invocation: columns of all experts of the block along x, places along y. A
 * place finds its expert in the starts.
 */
export function expertMatmul(options: { format: MatrixFormat; byPair: boolean }): Kernel {
  const { format, byPair } = options;
  return {
    name: `expertMatmul-${format}${byPair ? "-pair" : ""}`,
    tensors: {
      ...inputOf(format),
      weight: { type: "u32" },
      start: { type: "i32" },
      ...(byPair && { pair: { type: "i32" } as const }),
      out: { type: "f32", written: true },
    },
    numbers: {
      ...numbers,
      experts: "u32",
      expertPanels: "u32",
      firstPanel: "u32",
      panels: "u32",
      choices: "u32",
      firstPlace: "u32",
    },
    body: `${groupTerm(format)}${lanesSum}
fn expert_of(place: u32) -> u32 {
  var low = 0u;
  var high = p.experts;
  while (high - low > 1u) {
    let middle = (low + high) / 2u;
    if (u32(start_at(middle)) <= place) { low = middle; } else { high = middle; }
  }
  return low;
}
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x;
  if (column >= p.width) { return; }
  let place = p.firstPlace + id.y;
  let panel = expert_of(place) * p.expertPanels + column / 8u;
  if (panel < p.firstPanel || panel >= p.firstPanel + p.panels) { return; }
  let row = ${byPair ? "u32(pair_at(place)) / p.choices" : "place"};
  let value = product((panel - p.firstPanel) * p.panelWords, column % 8u, row);
  out_set(place * p.width + column, value);
}`,
  };
}
