/**
 * SAIL-ViT (AIMv2 body): patches -> features. Tiles do not see each other.
 * Shapes: T tiles, N patches per tile, D vision width.
 */
import type { Tensor } from "@/tensor/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { gatedMlp } from "./mlp.ts";
import type { Parameters, VisionLayer } from "./parameters.ts";
import { type Program, project } from "./program.ts";

/** Patches of one tile or picture. */
export interface PatchGrid {
  readonly rows: number;
  readonly columns: number;
}

/**
 * pixels u8 [T, S, S, 3] -> selected features [T * N, D] (new tensor). A picture of any grid is
 * passed as its patches, [N, P, P, 3] with count 1, and positions for that grid.
 */
export function visionFeatures(
  program: Program,
  call: {
    pixels: Tensor;
    count: number;
    grid: PatchGrid;
    /** [N, D] */
    position: Tensor;
    config: ModelConfig;
    parameters: Parameters["vision"];
  },
): Tensor {
  const { ops, workspace } = program;
  const { config, parameters } = call;
  const { patchSize, hiddenWidth, epsilon, featureLayer } = config.vision;
  const { mean, deviation } = config.preprocess;
  const patches = call.grid.rows * call.grid.columns;
  const rows = call.count * patches;
  const hidden = workspace.tensor("f32", [rows, hiddenWidth]); // residual stream [T*N, D]
  const start = workspace.mark();
  const patchRows = workspace.tensor("f32", [rows, 3 * patchSize ** 2]);
  ops.patchify({ tiles: call.pixels, patchSize, mean, deviation, out: patchRows });
  ops.matmul({
    input: patchRows,
    weight: parameters.patch.weight,
    bias: parameters.patch.bias!,
    out: hidden,
  });
  workspace.release(start);
  // The patch norm comes before the position is added.
  ops.rmsNorm({ input: hidden, weight: parameters.patchNorm, epsilon, out: hidden });
  ops.add({ left: hidden, right: call.position, out: hidden });
  program.tap?.("vision.patch", hidden);
  const last = featureLayer === "normed" ? parameters.layers.length - 1 : featureLayer;
  for (let i = 0; i <= last; i++) {
    visionLayer(program, { hidden, layer: parameters.layers[i]!, patches, config });
    program.tap?.(`vision.layer.${i}`, hidden);
  }
  if (featureLayer === "normed") {
    ops.rmsNorm({ input: hidden, weight: parameters.norm!, epsilon, out: hidden });
    program.tap?.("vision.norm", hidden);
  }
  program.tap?.("vision.features", hidden);
  return hidden;
}

/** One pre-norm layer, in place on the residual stream. */
function visionLayer(
  program: Program,
  call: { hidden: Tensor; layer: VisionLayer; patches: number; config: ModelConfig },
): void {
  const { ops, workspace } = program;
  const { hidden, layer } = call;
  const { epsilon, heads, hiddenWidth } = call.config.vision;
  const start = workspace.mark();
  const normed = workspace.tensor("f32", hidden.shape);
  ops.rmsNorm({ input: hidden, weight: layer.attentionNorm, epsilon, out: normed });
  const attended = workspace.tensor("f32", hidden.shape);
  ops.segmentAttention({
    query: project(program, normed, layer.query),
    key: project(program, normed, layer.key),
    value: project(program, normed, layer.value),
    segmentRows: call.patches,
    heads,
    scale: (hiddenWidth / heads) ** -0.5,
    // In q8 it would cost as much as all other rounding together (adapter: cosine 0.99950).
    rounded: layer.key.weight.format === "q4",
    out: attended,
  });
  ops.add({ left: hidden, right: project(program, attended, layer.output), out: hidden });
  workspace.release(start);
  const mlpNormed = workspace.tensor("f32", hidden.shape);
  ops.rmsNorm({ input: hidden, weight: layer.mlpNorm, epsilon, out: mlpNormed });
  ops.add({ left: hidden, right: gatedMlp(program, mlpNormed, layer.mlp), out: hidden });
  workspace.release(start);
}
