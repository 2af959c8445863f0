/**
 * Growth in depth and width: more blocks, wider MLPs, and the same answers. New blocks add nothing to
 * the residual stream and new units nothing to their MLP until training moves them, because the
 * matrices that they write with start at zero; what they read with is drawn from a seed. (Net2Net,
 * 1511.05641; zero-initialised residual blocks as in ReZero, 2003.04887.)
 */
import { OperatingError } from "@/errors.ts";
import type { ModelConfig } from "@/model/config.ts";
import { type ModelTensor, type WholeModel, withConfig } from "./model_folder.ts";
import { randomWeights } from "./random_weights.ts";

/** Sizes wanted; what is missing stays. */
export interface GrownSizes {
  readonly visionLayers?: number | undefined;
  readonly visionMlp?: number | undefined;
  readonly decoderLayers?: number | undefined;
  readonly decoderMlp?: number | undefined;
}

/** Throws OperatingError for sizes below those of the model, and for parts that cannot grow. */
export async function growSize(
  model: WholeModel,
  sizes: GrownSizes,
  seed: number,
): Promise<WholeModel> {
  const config = grownConfig(model.config, sizes);
  const tensors = await randomWeights(config, seed);
  for (const [name, { shape, values }] of tensors) {
    const old = model.tensors.get(name);
    if (isWritten(name)) values.fill(0);
    if (old) tensors.set(name, { shape, values: placed(old, { shape, values }) });
  }
  return withConfig({ ...model, tensors }, config);
}

function grownConfig(config: ModelConfig, sizes: GrownSizes): ModelConfig {
  const { vision, decoder } = config;
  const grown = {
    vision: {
      ...vision,
      layers: sizes.visionLayers ?? vision.layers,
      intermediateWidth: sizes.visionMlp ?? vision.intermediateWidth,
    },
    decoder: {
      ...decoder,
      layers: sizes.decoderLayers ?? decoder.layers,
      intermediateWidth: sizes.decoderMlp ?? decoder.intermediateWidth,
    },
  };
  for (const part of ["vision", "decoder"] as const) {
    for (const size of ["layers", "intermediateWidth"] as const) {
      const [from, to] = [config[part][size], grown[part][size]];
      if (to < from) refuse(`the ${part}'s ${size} are ${from} and cannot become ${to}`);
    }
  }
  if (vision.featureLayer !== "normed" && grown.vision.layers > vision.layers) {
    refuse("its features are of an inner block of the tower");
  }
  const decoderGrows = decoder.layers < grown.decoder.layers ||
    decoder.intermediateWidth < grown.decoder.intermediateWidth;
  if (decoder.moe && decoderGrows) refuse("its decoder has experts");
  return { ...config, ...grown };
}

function refuse(reason: string): never {
  throw new OperatingError("invalid_request", `Cannot grow the model: ${reason}`);
}

/** Matrices whose product is added to the residual stream, and their biases. */
function isWritten(name: string): boolean {
  return /^(vision|decoder)\.\d+\.(output|down)\.(weight|bias)$/.test(name);
}

/** The old tensor in the first rows and columns of the new one. */
function placed(old: ModelTensor, { shape, values }: ModelTensor): Float32Array {
  if (old.values.length === values.length) return old.values;
  const [rows, columns] = old.shape as [number, number?];
  if (columns === undefined) values.set(old.values);
  else {
    for (let row = 0; row < rows; row++) {
      const own = old.values.subarray(row * columns, (row + 1) * columns);
      values.set(own, row * shape[1]!);
    }
  }
  return values;
}
