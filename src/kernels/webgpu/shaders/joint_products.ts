/**
 * Products of few rows with several weights of one format and one input: in `vectors.ts` one weight
 * at a time. Every 64 invocations compute a panel of one of the weights; sums are the same.
 */
import type { MatrixFormat } from "../../backend.ts";
import { isQuantised } from "../../matrix_layout.ts";
import type { Kernel, TensorUse } from "../kernel.ts";
import { gated } from "./elementwise.ts";
import { divide, exponential, packedDot } from "./numeric.ts";
import { fourWeights, LANES, weightScales } from "./products.ts";
import { groupStep } from "./vectors.ts";

/** Invocations of a panel. */
const SIZE = 2 * LANES;

export interface JointProduct {
  readonly format: MatrixFormat;
  readonly rows: number;
  /** Panels of a workgroup; even when `gates`. */
  readonly panels: number;
  /** Weights, two when `gates`. */
  readonly weights: number;
  /** The first output becomes silu(first) * second. */
  readonly gates: boolean;
}

const names = (count: number) => Array.from({ length: count }, (_, which) => `weight${which}`);

function tensorsOf({ format, weights }: JointProduct): Readonly<Record<string, TensorUse>> {
  const each = (name: string, use: TensorUse) =>
    Object.fromEntries(names(weights).map((_, which) => [`${name}${which}`, use]));
  return {
    ...(isQuantised(format)
      ? { codes: { type: "u32" }, codeScale: { type: "f32" }, codeSum: { type: "i32" } } as const
      : { input: { type: "f32" } } as const),
    ...each("weight", { type: "vec4u" }),
    ...each("out", { type: "f32", written: true }),
  };
}

/** One statement for each weight, chosen by \`which\`. */
function forEach(weights: number, statement: (which: number) => string): string {
  const cases = names(weights).map((_, which) =>
    `${which < weights - 1 ? `if (which == ${which}u) ` : ""}{ ${statement(which)} }`
  );
  return cases.join(" else ");
}

/** \`unit\`, the number of a panel among all, to the weight and the panel inside it. */
function placeOf({ weights, gates }: JointProduct): string {
  if (gates) return "let which = unit % 2u;\n  let panel = unit / 2u;";
  const ends = names(weights).map((_, which) => `p.end${which}`);
  const which = ends.slice(0, -1).map((end) => `select(0u, 1u, unit >= ${end})`).join(" + ");
  const start = ends.slice(0, -1).map((end, i) => `select(0u, ${end}, which == ${i + 1}u)`);
  return `let which = ${which};\n  let panel = unit - (${start.join(" + ")});`;
}

/**
 * Numbers: \`end0\`… are the panels of all weights up to and with each. Workgroups: \`panels\` of all
 * panels each, along x.
 */
export function jointProduct(options: JointProduct): Kernel {
  const { format, rows, panels, weights, gates } = options;
  const access = isQuantised(format)
    ? packedDot + weightScales
    : names(weights).map((name) => fourWeights(format, name)).join("");
  const each = (name: string) =>
    Object.fromEntries(names(weights).map((_, which) => [`${name}${which}`, "u32" as const]));
  const loop = (which: number) =>
    `for (var group = lane; group < p.groups; group += ${LANES}u) {${
      groupStep(format, `weight${which}`)
    }
    }`;
  return {
    name: `jointProduct-${format}-${rows}x${panels}-${weights}${gates ? "-gates" : ""}`,
    tensors: tensorsOf(options),
    numbers: {
      ...{ rows: "u32", columns: "u32", groups: "u32", panelVectors: "u32" },
      ...each("width"),
      ...each("end"),
    },
    body: `const ROWS = ${rows}u;
${access}${gates ? exponential + divide + gated : ""}
var<workgroup> partial: array<array<vec4<f32>, ${SIZE * panels}>, ROWS>;
fn total_of(t: u32, own: u32, lane_row: u32) -> f32 {
  var total = 0.0;
  for (var l = 0u; l < min(p.groups, ${LANES}u); l++) {
    total += partial[t][own + 2u * l + lane_row / 4u][lane_row % 4u];
  }
  return total;
}
@compute @workgroup_size(${SIZE * panels})
fn main(@builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(local_invocation_index) invocation: u32) {
  let local = invocation % ${SIZE}u;
  let own = invocation - local;
  let unit = ${panels}u * group_id.x + invocation / ${SIZE}u;
  let lane = local / 2u;
  let side = local % 2u;
  ${placeOf(options)}
  let is_here = unit < p.end${weights - 1};
  if (is_here) {
    let base = panel * p.panelVectors;
    var rows: array<u32, ROWS>;
    var acc: array<vec4<f32>, ROWS>;
    for (var t = 0u; t < ROWS; t++) {
      rows[t] = min(t, p.rows - 1u);
      acc[t] = vec4<f32>(0.0);
    }
    ${forEach(weights, loop)}
    for (var t = 0u; t < ROWS; t++) { partial[t][own + local] = acc[t]; }
  }
  workgroupBarrier();
  let t = local / 8u;
  let lane_row = local % 8u;
  let column = 8u * panel + lane_row;
  if (!is_here || t >= ROWS || t >= p.rows) { return; }
  ${gates ? storeGated : forEach(weights, storeOne)}
}`,
  };
}

const storeOne = (which: number) => `
    if (column < p.width${which}) {
      out${which}_set(t * p.width${which} + column, total_of(t, own, lane_row));
    }`;

/** The invocations of the first weight's panel also take the second's, which lies behind it. */
const storeGated = `
  if (which == 1u || column >= p.width0) { return; }
  let up = total_of(t, own + ${SIZE}u, lane_row);
  out1_set(t * p.width0 + column, up);
  out0_set(t * p.width0 + column, gated(total_of(t, own, lane_row), up));`;
