/** Kernels that move rows: table look-up, copies, patches of pixels, rotary positions. */
import type { MatrixFormat } from "../../backend.ts";
import type { Kernel } from "../kernel.ts";
import { linear } from "./numeric.ts";
import { weightValue } from "./weights.ts";

const SIZE = 64;
/** Invocations of a workgroup of the kernels that take one value each. */
export const VALUE_GROUP = SIZE;

const open = /* wgsl */ `${linear}
@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32) {
  let i = linear_index(group, groups, local, ${SIZE}u);`;

/** One value of one row; rows outside the table block are left to other dispatches. */
export function gatherRows(format: MatrixFormat): Kernel {
  return {
    name: `gatherRows-${format}`,
    tensors: {
      table: { type: "u32" },
      row: { type: "i32" },
      out: { type: "f32", written: true },
    },
    numbers: { count: "u32", width: "u32", firstPanel: "u32", panels: "u32", panelWords: "u32" },
    body: `${weightValue(format, "table")}
${open}
  if (i >= p.count) { return; }
  let r = i / p.width;
  let row = u32(row_at(r));
  let panel = row / 8u;
  if (panel < p.firstPanel || panel >= p.firstPanel + p.panels) { return; }
  out_set(i, weight_value((panel - p.firstPanel) * p.panelWords, row % 8u, i % p.width));
}`,
  };
}

export function copyRows(options: { fromIndex: boolean; toIndex: boolean }): Kernel {
  const { fromIndex, toIndex } = options;
  return {
    name: `copyRows-${fromIndex}-${toIndex}`,
    tensors: {
      source: { type: "f32" },
      ...(fromIndex && { sourceRow: { type: "i32" } as const }),
      out: { type: "f32", written: true },
      ...(toIndex && { outRow: { type: "i32" } as const }),
    },
    numbers: { count: "u32", width: "u32" },
    body: `${open}
  if (i >= p.count) { return; }
  let r = i / p.width;
  let place = ${fromIndex ? "u32(sourceRow_at(r))" : "r"};
  let to = ${toIndex ? "u32(outRow_at(r))" : "r"};
  out_set(to * p.width + i % p.width, source_at(place * p.width + i % p.width));
}`,
  };
}

/** Values come from a table of the 256 levels of each channel. */
export const patchify: Kernel = {
  name: "patchify",
  tensors: {
    tiles: { type: "u8" },
    level: { type: "f32" },
    out: { type: "f32", written: true },
  },
  numbers: { count: "u32", tileSize: "u32", patchSize: "u32" },
  body: `${open}
  if (i >= p.count) { return; }
  let size = p.patchSize;
  let side = p.tileSize / size;
  let x = i % size;
  let y = i / size % size;
  let channel = i / (size * size) % 3u;
  let patch_index = i / (3u * size * size);
  let left = patch_index % side * size;
  let top = patch_index / side % side * size;
  let tile = patch_index / (side * side);
  let pixel = (tile * p.tileSize + top + y) * p.tileSize + left + x;
  out_set(i, level_at(256u * channel + tiles_at(3u * pixel + channel)));
}`,
};

export const rope: Kernel = {
  name: "rope",
  tensors: {
    input: { type: "f32" },
    position: { type: "i32" },
    table: { type: "f32" },
    out: { type: "f32", written: true },
  },
  numbers: { count: "u32", pairs: "u32", half: "u32" },
  body: `${open}
  if (i >= p.count) { return; }
  let r = i / p.pairs;
  let d = i % p.half;
  let first = (i / p.half) * 2u * p.half + d;
  let second = first + p.half;
  let angle = u32(position_at(r)) * 2u * p.half + d;
  let cosine = table_at(angle);
  let sine = table_at(angle + p.half);
  let a = input_at(first);
  let b = input_at(second);
  out_set(first, fma(a, cosine, -(b * sine)));
  out_set(second, fma(b, cosine, a * sine));
}`,
};
