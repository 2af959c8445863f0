/**
 * How much a model computes and reads per token or tile: multiply-adds and weight bytes of its
 * matrices, from the configuration. Attention, norms and sampling are not counted.
 */
import type { MatrixFormat } from "@/kernels/backend.ts";
import { expertBytes } from "@/kernels/matrix_layout.ts";
import {
  type DecoderConfig,
  isSparseLayer,
  type ModelConfig,
  tokensPerTile,
} from "@/model/config.ts";
import type { TensorName } from "@/weights/names.ts";
import { matrixFormatOf, type Precision } from "@/weights/precision.ts";

/** A matrix [rows, columns] that one token goes through; of experts, `count` alike. */
export interface MatrixUse {
  readonly name: TensorName;
  readonly rows: number;
  readonly columns: number;
  readonly count: number;
}

/** The matrices of the decoder layers that one token goes through. */
export function layerMatrices(config: DecoderConfig): MatrixUse[] {
  const { hiddenWidth: width, heads, kvHeads, headWidth, intermediateWidth, moe } = config;
  const uses: MatrixUse[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const use = (part: string, rows: number, columns: number, count = 1) =>
      uses.push({ name: `decoder.${layer}.${part}.weight`, rows, columns, count });
    use("query", heads * headWidth, width);
    use("key", kvHeads * headWidth, width);
    use("value", kvHeads * headWidth, width);
    use("output", width, heads * headWidth);
    if (moe && isSparseLayer(config, layer)) {
      use("moeGate", moe.experts, width);
      use("experts.0.gate", moe.intermediateWidth, width, moe.expertsPerToken);
      use("experts.0.up", moe.intermediateWidth, width, moe.expertsPerToken);
      use("experts.0.down", width, moe.intermediateWidth, moe.expertsPerToken);
    } else {
      use("gate", intermediateWidth, width);
      use("up", intermediateWidth, width);
      use("down", width, intermediateWidth);
    }
  }
  return uses;
}

/** The LM head, which only rows that are sampled go through. */
export function headMatrix(config: DecoderConfig, vocabularySize: number): MatrixUse {
  return { name: "decoder.head", rows: vocabularySize, columns: config.hiddenWidth, count: 1 };
}

/** Arithmetic operations (two per multiply-add) of one row through the matrices. */
export function operationsOf(uses: readonly MatrixUse[]): number {
  return uses.reduce((sum, { rows, columns, count }) => sum + 2 * rows * columns * count, 0);
}

/** Weight bytes that one row reads, scales included. `stored` is the checkpoint's element type. */
export function bytesOf(
  uses: readonly MatrixUse[],
  model: { precision: Precision; decoderLayers: number; stored: MatrixFormat },
): number {
  return uses.reduce((sum, { name, rows, columns, count }) => {
    const format = matrixFormatOf(name, model);
    return sum + count * expertBytes({ format, rows, columns });
  }, 0);
}

/** Arithmetic operations of one tile through tower and adapter. */
export function tileOperations(config: ModelConfig): { linear: number; attention: number } {
  const { hiddenWidth: width, intermediateWidth, layers, patchSize } = config.vision;
  const patches = (config.preprocess.tileSize / patchSize) ** 2;
  const layerWeights = 4 * width ** 2 + 3 * width * intermediateWidth;
  const merged = width * config.mergeFactor ** 2;
  const decoderWidth = config.decoder.hiddenWidth;
  const adapterWeights = merged * decoderWidth + decoderWidth ** 2;
  return {
    linear: 2 * (patches * (3 * patchSize ** 2 * width + layers * layerWeights) +
      tokensPerTile(config) * adapterWeights),
    attention: 2 * layers * 2 * patches ** 2 * width,
  };
}
