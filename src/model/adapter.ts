/**
 * Token merge and adapter: k x k neighbouring patches become one visual token, then
 * LayerNorm -> Linear -> GELU -> Linear into the decoder's width.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import type { ModelConfig } from "./config.ts";
import type { Parameters } from "./parameters.ts";
import { type Program, project } from "./program.ts";
import type { PatchGrid } from "./vision.ts";

/** LayerNorm of the adapter keeps PyTorch's default. */
const EPSILON = 1e-5;

/**
 * Patch row behind each quarter of each visual token, for `count` tiles: entry (t, j) is the j-th
 * patch (row, then column, inside the k x k square) of token t. "v2" lists tokens row-major; "v1"
 * keeps the channel order but transposes the token grid.
 */
export function mergeOrder(args: {
  grid: PatchGrid;
  factor: number;
  order: "v1" | "v2";
  count: number;
}): Int32Array {
  const { grid, factor, order, count } = args;
  const rows = Math.floor(grid.rows / factor);
  const columns = Math.floor(grid.columns / factor);
  const [outer, inner] = order === "v2" ? [rows, columns] : [columns, rows];
  const out = new Int32Array(count * rows * columns * factor * factor);
  let at = 0;
  for (let tile = 0; tile < count; tile++) {
    for (let first = 0; first < outer; first++) {
      for (let second = 0; second < inner; second++) {
        const [row, column] = order === "v2" ? [first, second] : [second, first];
        for (let dy = 0; dy < factor; dy++) {
          for (let dx = 0; dx < factor; dx++) {
            const patch = (row * factor + dy) * grid.columns + column * factor + dx;
            out[at++] = tile * grid.rows * grid.columns + patch;
          }
        }
      }
    }
  }
  return out;
}

/** features [T * N, D], order i32 [T * N] from `mergeOrder` -> out [T * N / k^2, H]. */
export function adapt(
  program: Program,
  call: {
    features: Tensor;
    order: Tensor;
    config: ModelConfig;
    parameters: Parameters["adapter"];
    out: Tensor;
  },
): void {
  const { ops, workspace } = program;
  const { parameters, features } = call;
  const width = call.config.vision.hiddenWidth;
  const rowCount = call.order.shape[0]!;
  const square = call.config.mergeFactor ** 2;
  const merged = workspace.tensor("f32", [rowCount / square, square * width]);
  ops.copyRows({ source: features, sourceRow: call.order, out: merged, width, rowCount });
  const { normWeight: weight, normBias: bias } = parameters;
  ops.layerNorm({ input: merged, weight, bias, epsilon: EPSILON, out: merged });
  const hidden = project(program, merged, parameters.hidden);
  ops.gelu({ input: hidden, out: hidden });
  ops.matmul({
    input: hidden,
    weight: parameters.output.weight,
    bias: parameters.output.bias!,
    out: call.out,
  });
  program.tap?.("adapter", call.out);
}
