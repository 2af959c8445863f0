/**
 * Products of few rows: a panel of eight outputs per 64 invocations, whose 32 lanes read the weights
 * once for all of its rows. Two invocations share a lane, with four outputs each.
 */
import type { MatrixFormat } from "../../backend.ts";
import { isQuantised, zeroCode } from "../../matrix_layout.ts";
import type { Kernel } from "../kernel.ts";
import type { PanelsPerGroup } from "../tuning.ts";
import { packedDot } from "./numeric.ts";
import {
  expertOf,
  floatWeights,
  groupVectors,
  inputRow,
  LANES,
  productNumbers,
  productTensors,
  type Routing,
  weightScales,
} from "./products.ts";

/** Invocations of a panel. */
const SIZE = 2 * LANES;

/** Adds one group of 32 columns of a weight to \`acc\`, for all rows of the workgroup. */
export function groupStep(format: MatrixFormat, weight = "weight"): string {
  if (!isQuantised(format)) {
    return `
      let end = min(p.columns, 32u * group + 32u);
      for (var k = 32u * group; k < end; k++) {
        let w = ${weight}s_of(base, k, side);
        for (var t = 0u; t < ROWS; t++) {
          acc[t] = fma(vec4<f32>(input_at(rows[t] * p.columns + k)), w, acc[t]);
        }
      }`;
  }
  const read = format === "q8"
    ? `let w = ${weight}_at(at + 1u + 2u * i + side);`
    : `let both = ${weight}_at(at + 1u + 2u * (i % 4u) + side);
        let w = select(both, both >> vec4<u32>(4u), i >= 4u) & vec4<u32>(0x0f0f0f0fu);`;
  return `
      let at = base + ${groupVectors[format]}u * group;
      var dots: array<vec4<i32>, ROWS>;
      for (var t = 0u; t < ROWS; t++) {
        dots[t] = vec4<i32>(-${zeroCode[format]} * codeSum_at(rows[t] * p.groups + group));
      }
      for (var i = 0u; i < 8u; i++) {
        ${read}
        for (var t = 0u; t < ROWS; t++) {
          let x = codes_at(8u * (rows[t] * p.groups + group) + i);
          dots[t] += vec4<i32>(dot4(w.x, x), dot4(w.y, x), dot4(w.z, x), dot4(w.w, x));
        }
      }
      let weight_scale = scales_of(${weight}_at(at), side);
      for (var t = 0u; t < ROWS; t++) {
        let by = codeScale_at(rows[t] * p.groups + group);
        // Not the product of the scales, which may be too small for a normal number.
        acc[t] = fma(vec4<f32>(dots[t]) * weight_scale, vec4<f32>(by), acc[t]);
      }`;
}

/**
 * Workgroups: panels of one expert along x, \`panels\` in each; blocks of \`rows\` places along y.
 * With routing each place finds its expert, so \`rows\` is 1.
 */
export function vectorProduct(
  options: {
    format: MatrixFormat;
    bias?: boolean;
    routing: Routing;
    rows: number;
    panels: PanelsPerGroup;
  },
): Kernel {
  const { format, bias = false, routing, rows, panels } = options;
  const isRouted = routing !== "none";
  const access = isQuantised(format) ? packedDot + weightScales : floatWeights(format);
  return {
    name: `vectorProduct-${format}-${routing}-${rows}x${panels}${bias ? "-bias" : ""}`,
    tensors: productTensors(options),
    numbers: { ...productNumbers, firstPlace: "u32" },
    body: `const ROWS = ${rows}u;
${access}
${inputRow(routing)}${isRouted ? expertOf : ""}
var<workgroup> partial: array<array<vec4<f32>, ${SIZE * panels}>, ROWS>;
@compute @workgroup_size(${SIZE * panels})
fn main(@builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(local_invocation_index) invocation: u32) {
  let local = invocation % ${SIZE}u;
  let own = invocation - local;
  let group_panel = ${panels}u * group_id.x + invocation / ${SIZE}u;
  let first = p.firstPlace + ROWS * group_id.y;
  let lane = local / 2u;
  let side = local % 2u;
  let panel = group_panel${isRouted ? " + p.expertPanels * expert_of(first)" : " + p.firstPanel"};
  let is_here = ${
      isRouted ? "group_panel < p.expertPanels && " : ""
    }panel >= p.firstPanel && panel < p.firstPanel + p.panels;
  if (is_here) {
    let base = (panel - p.firstPanel) * p.panelVectors;
    var rows: array<u32, ROWS>;
    var acc: array<vec4<f32>, ROWS>;
    for (var t = 0u; t < ROWS; t++) {
      rows[t] = input_row(min(first + t, p.rows - 1u));
      acc[t] = vec4<f32>(0.0);
    }
    for (var group = lane; group < p.groups; group += ${LANES}u) {${groupStep(format)}
    }
    for (var t = 0u; t < ROWS; t++) { partial[t][own + local] = acc[t]; }
  }
  workgroupBarrier();
  let t = local / 8u;
  let lane_row = local % 8u;
  let column = 8u * group_panel + 8u * ${isRouted ? "0u" : "p.firstPanel"} + lane_row;
  if (!is_here || t >= ROWS || first + t >= p.rows || column >= p.width) { return; }
  var total = 0.0;
  for (var l = 0u; l < min(p.groups, ${LANES}u); l++) {
    total += partial[t][own + 2u * l + lane_row / 4u][lane_row % 4u];
  }
  out_set((first + t) * p.width + column, total${bias ? " + bias_at(column)" : ""});
}`,
  };
}
