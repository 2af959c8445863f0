/**
 * Products of many rows: a tile of outputs per workgroup, through workgroup memory. A workgroup has
 * 16 x 16 invocations; each keeps \`perThread\` rows by four columns, so a tile is 16 * perThread
 * rows by 64 columns. Groups are visited lane by lane, so sums have the order of `vectors.ts`.
 */
import type { MatrixFormat } from "../../backend.ts";
import { isQuantised, zeroCode } from "../../matrix_layout.ts";
import type { Kernel } from "../kernel.ts";
import type { RowsPerThread } from "../tuning.ts";
import { packedDot } from "./numeric.ts";
import {
  floatWeights,
  groupVectors,
  inputRow,
  LANES,
  productNumbers,
  productTensors,
  type Routing,
  weightScales,
} from "./products.ts";

const SIZE = 256;
/** Columns and panels of a tile. */
export const TILE_COLUMNS = 64;
const TILE_PANELS = TILE_COLUMNS / 8;
/** Columns of input that are in workgroup memory at a time, in float formats. */
const DEPTH = 16;

export function tileRows(perThread: RowsPerThread): number {
  return 16 * perThread;
}

/** Loads half a group and multiplies it, twice. */
const floatGroup = /* wgsl */ `
      for (var half = 0u; half < 2u; half++) {
        let k0 = 32u * group + ${DEPTH}u * half;
        workgroupBarrier();
        for (var i = local; i < TILE_ROWS * ${DEPTH}u; i += ${SIZE}u) {
          let k = k0 + i % ${DEPTH}u;
          let r = i / ${DEPTH}u;
          var x = 0.0;
          if (k < p.columns) { x = input_at(input_rows[r] * p.columns + k); }
          inputs[i % ${DEPTH}u][r] = x;
        }
        for (var i = local; i < ${16 * DEPTH}u; i += ${SIZE}u) {
          let k = k0 + i % ${DEPTH}u;
          let quad = i / ${DEPTH}u;
          let panel = first_panel + quad / 2u;
          var w = stored4();
          if (k < p.columns && panel >= p.firstPanel && panel < end_panel) {
            w = stored_of((panel - p.firstPanel) * p.panelVectors, k, quad % 2u);
          }
          weights[i % ${DEPTH}u][quad] = w;
        }
        workgroupBarrier();
        let depth = min(${DEPTH}u, max(p.columns, k0) - k0);
        for (var k = 0u; k < depth; k++) {
          let w = vec4<f32>(weights[k][quad_column]);
          for (var t = 0u; t < PER_THREAD; t++) {
            acc[t] = fma(vec4<f32>(inputs[k][first_row + t]), w, acc[t]);
          }
        }
      }`;

function integerGroup(format: "q8" | "q4"): string {
  const read = format === "q8"
    ? "w = weight_at(at + 1u + 2u * word + quad % 2u);"
    : `let both = weight_at(at + 1u + 2u * (word % 4u) + quad % 2u);
            w = select(both, both >> vec4<u32>(4u), word >= 4u) & vec4<u32>(0x0f0f0f0fu);`;
  return /* wgsl */ `
      workgroupBarrier();
      for (var i = local; i < TILE_ROWS * 8u; i += ${SIZE}u) {
        let r = i / 8u;
        inputs[i % 8u][r] = codes_at(8u * (input_rows[r] * p.groups + group) + i % 8u);
      }
      for (var r = local; r < TILE_ROWS; r += ${SIZE}u) {
        input_scales[r] = codeScale_at(input_rows[r] * p.groups + group);
        input_sums[r] = codeSum_at(input_rows[r] * p.groups + group);
      }
      if (local < 128u) {
        let quad = local / 8u;
        let word = local % 8u;
        let panel = first_panel + quad / 2u;
        var w = vec4<u32>(0u);
        if (panel >= p.firstPanel && panel < end_panel) {
          let at = (panel - p.firstPanel) * p.panelVectors + ${groupVectors[format]}u * group;
          ${read}
          if (word == 0u) { weight_scales[quad] = scales_of(weight_at(at), quad % 2u); }
        }
        weights[word][quad] = w;
      }
      workgroupBarrier();
      var dots: array<vec4<i32>, PER_THREAD>;
      for (var t = 0u; t < PER_THREAD; t++) {
        dots[t] = vec4<i32>(-${zeroCode[format]} * input_sums[first_row + t]);
      }
      for (var word = 0u; word < 8u; word++) {
        let w = weights[word][quad_column];
        for (var t = 0u; t < PER_THREAD; t++) {
          let x = inputs[word][first_row + t];
          dots[t] += vec4<i32>(dot4(w.x, x), dot4(w.y, x), dot4(w.z, x), dot4(w.w, x));
        }
      }
      let weight_scale = weight_scales[quad_column];
      for (var t = 0u; t < PER_THREAD; t++) {
        let by = vec4<f32>(input_scales[first_row + t]);
        acc[t] = fma(vec4<f32>(dots[t]) * weight_scale, by, acc[t]);
      }`;
}

/** One more row than used, so that neighbouring columns lie in different banks. */
function tileMemory(format: MatrixFormat): string {
  if (!isQuantised(format)) {
    return `
var<workgroup> inputs: array<array<f32, TILE_ROWS + 1u>, ${DEPTH}>;
var<workgroup> weights: array<array<stored4, 16>, ${DEPTH}>;`;
  }
  return `
var<workgroup> inputs: array<array<u32, TILE_ROWS + 1u>, 8>;
var<workgroup> input_scales: array<f32, TILE_ROWS>;
var<workgroup> input_sums: array<i32, TILE_ROWS>;
var<workgroup> weights: array<array<vec4<u32>, 16>, 8>;
var<workgroup> weight_scales: array<vec4<f32>, 16>;`;
}

/** Which rows a tile has: consecutive ones, or those that \`expertTiles\` found. */
function tileRange(isRouted: boolean): string {
  if (!isRouted) {
    return `
  let place = TILE_ROWS * group_id.y;
  let end = p.rows;
  let expert_panel = 0u;`;
  }
  return `
  if (local == 0u) {
    tile = vec3<u32>(u32(tile_at(3u * group_id.y)), u32(tile_at(3u * group_id.y + 1u)),
      u32(tile_at(3u * group_id.y + 2u)));
  }
  let range = workgroupUniformLoad(&tile);
  let place = range.y;
  let end = range.z;
  let expert_panel = range.x * p.expertPanels;
  if (place >= end) { return; }`;
}

/** Workgroups: tiles of columns along x, tiles of rows along y. */
export function tileProduct(
  options: {
    format: MatrixFormat;
    bias?: boolean;
    routing: Routing;
    perThread: RowsPerThread;
  },
): Kernel {
  const { format, bias = false, routing, perThread } = options;
  const isRouted = routing !== "none";
  const { start: _, ...tensors } = productTensors(options);
  const access = isQuantised(format) ? packedDot + weightScales : floatWeights(format);
  // Columns are those of the expert; its panels may lie before or beyond the block.
  return {
    name: `tileProduct-${format}-${routing}-${perThread}${bias ? "-bias" : ""}`,
    tensors: { ...(isRouted && { tile: { type: "i32" } as const }), ...tensors },
    numbers: productNumbers,
    body: `const PER_THREAD = ${perThread}u;
const TILE_ROWS = ${tileRows(perThread)}u;
${access}
${inputRow(routing)}${tileMemory(format)}
var<workgroup> input_rows: array<u32, TILE_ROWS>;
${isRouted ? "var<workgroup> tile: vec3<u32>;" : ""}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group_id: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {${tileRange(isRouted)}
  // The tile's panels among all; those outside of [start_panel, end_panel) are not here.
  let block_panel = ${
      isRouted
        ? `expert_panel + ${TILE_PANELS}u * group_id.x`
        : `p.firstPanel + ${TILE_PANELS}u * group_id.x`
    };
  let expert_end = ${isRouted ? "expert_panel + p.expertPanels" : "p.expertPanels"};
  let end_panel = min(expert_end, p.firstPanel + p.panels);
  if (block_panel >= end_panel || block_panel + ${TILE_PANELS}u <= p.firstPanel) { return; }
  let first_panel = block_panel;
  for (var r = local; r < TILE_ROWS; r += ${SIZE}u) {
    input_rows[r] = input_row(min(place + r, end - 1u));
  }
  let quad_column = local % 16u;
  let first_row = local / 16u * PER_THREAD;
  var total: array<vec4<f32>, PER_THREAD>;
  for (var t = 0u; t < PER_THREAD; t++) { total[t] = vec4<f32>(0.0); }
  for (var lane = 0u; lane < min(p.groups, ${LANES}u); lane++) {
    var acc: array<vec4<f32>, PER_THREAD>;
    for (var t = 0u; t < PER_THREAD; t++) { acc[t] = vec4<f32>(0.0); }
    for (var group = lane; group < p.groups; group += ${LANES}u) {${
      isQuantised(format) ? integerGroup(format) : floatGroup
    }
    }
    for (var t = 0u; t < PER_THREAD; t++) { total[t] = total[t] + acc[t]; }
  }
  let panel = first_panel + quad_column / 2u;
  if (panel >= end_panel || panel < p.firstPanel) { return; }
  let column = 8u * (panel - expert_panel) + quad_column % 2u * 4u;
  for (var t = 0u; t < PER_THREAD; t++) {
    let row = place + first_row + t;
    if (row >= end) { break; }
    for (var j = 0u; j < 4u; j++) {
      if (column + j >= p.width) { break; }
      out_set(row * p.width + column + j, total[t][j]${bias ? " + bias_at(column + j)" : ""});
    }
  }
}`,
  };
}

/** Most experts whose tiles are listed. */
const EXPERTS_MAX = 1024;

/**
 * Tiles of places, none across experts: (expert, first place, end) each, as many as there may be;
 * those beyond the last are empty.
 */
export const expertTiles: Kernel = {
  name: "expertTiles",
  tensors: { start: { type: "i32" }, tile: { type: "i32", written: true } },
  numbers: { experts: "u32", tiles: "u32", tileRows: "u32" },
  body: `
var<workgroup> firsts: array<u32, ${EXPERTS_MAX + 1}>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  if (local == 0u) {
    var count = 0u;
    for (var e = 0u; e < p.experts; e++) {
      firsts[e] = count;
      let places = u32(start_at(e + 1u) - start_at(e));
      count += (places + p.tileRows - 1u) / p.tileRows;
    }
    firsts[p.experts] = count;
  }
  workgroupBarrier();
  for (var e = local; e < p.experts; e += 64u) {
    for (var t = firsts[e]; t < firsts[e + 1u]; t++) {
      let place = u32(start_at(e)) + (t - firsts[e]) * p.tileRows;
      tile_set(3u * t, i32(e));
      tile_set(3u * t + 1u, i32(place));
      tile_set(3u * t + 2u, min(i32(place + p.tileRows), start_at(e + 1u)));
    }
  }
  for (var t = firsts[p.experts] + local; t < p.tiles; t += 64u) {
    tile_set(3u * t, 0);
    tile_set(3u * t + 1u, 0);
    tile_set(3u * t + 2u, 0);
  }
}`,
};
