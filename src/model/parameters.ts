/**
 * Weights of a model on a backend. The same walk over the architecture runs twice: once to check
 * that every tensor exists in its shape (all problems in one error), once to stream the bytes.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { type DecoderConfig, isSparseLayer, type ModelConfig } from "./config.ts";
import {
  CheckingSource,
  ListingSource,
  type LoadProgress,
  type ParameterSource,
  type Quantisation,
  UploadingSource,
} from "./parameter_source.ts";

/** Weight [N, K] with an optional bias [N]. */
export interface Linear {
  readonly weight: Matrix;
  readonly bias: Tensor | undefined;
}

export interface GatedMlp {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

export interface VisionLayer {
  readonly attentionNorm: Tensor;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly mlpNorm: Tensor;
  readonly mlp: GatedMlp;
}

/** Stacked expert weights [E, N, K]. */
export interface MoeParameters {
  /** Router, never quantised. */
  readonly gate: Matrix;
  readonly expertGate: Matrix;
  readonly expertUp: Matrix;
  readonly expertDown: Matrix;
}

export interface DecoderLayer {
  readonly attentionNorm: Tensor;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly queryNorm: Tensor;
  readonly keyNorm: Tensor;
  readonly mlpNorm: Tensor;
  readonly feedForward:
    | { readonly kind: "dense"; readonly mlp: GatedMlp }
    | { readonly kind: "sparse"; readonly moe: MoeParameters };
}

export interface Parameters {
  readonly vision: {
    readonly patch: Linear;
    readonly patchNorm: Tensor;
    /** [patches, visionWidth] */
    readonly position: Tensor;
    readonly layers: readonly VisionLayer[];
    readonly norm: Tensor | undefined;
  };
  readonly adapter: {
    readonly normWeight: Tensor;
    readonly normBias: Tensor;
    readonly hidden: Linear;
    readonly output: Linear;
  };
  readonly decoder: {
    readonly embedding: Matrix;
    readonly layers: readonly DecoderLayer[];
    readonly norm: Tensor;
    readonly head: Matrix;
  };
}

/** Checks the whole folder, then streams it to the backend tensor by tensor. */
export async function loadParameters(args: {
  checkpoint: Checkpoint;
  config: ModelConfig;
  backend: Backend;
  quantisation: Quantisation;
  onProgress?: LoadProgress;
}): Promise<Parameters> {
  const { checkpoint, config } = args;
  const checking = new CheckingSource(checkpoint);
  await walk(config, checking);
  checking.reportUnused();
  checkpoint.problems.throwIfAny(checkpoint.label);
  return await walk(config, new UploadingSource(args, checking.usedBytes));
}

/** Canonical names and shapes of every tensor that a configuration implies. */
export async function impliedTensors(
  config: ModelConfig,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const listing = new ListingSource(!config.decoder.tiedEmbedding);
  await walk(config, listing);
  return listing.shapes;
}

async function walk(config: ModelConfig, source: ParameterSource): Promise<Parameters> {
  const vision = await walkVision(config, source);
  const { hiddenWidth } = config.decoder;
  const merged = config.vision.hiddenWidth * config.mergeFactor ** 2;
  const adapter = {
    normWeight: await source.vector("adapter.norm.weight", merged),
    normBias: await source.vector("adapter.norm.bias", merged),
    hidden: await biasedLinear(source, "adapter.hidden", hiddenWidth, merged),
    output: await biasedLinear(source, "adapter.output", hiddenWidth, hiddenWidth),
  };
  const rows = source.rowsOf("decoder.embedding") || (config.decoder.vocabularySize ?? 1);
  const embedding = await source.matrix({ name: "decoder.embedding", rows, columns: hiddenWidth });
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.decoder.layers; i++) {
    layers.push(await walkDecoderLayer(config.decoder, source, i));
  }
  const norm = await source.vector("decoder.norm.weight", hiddenWidth);
  // A stored head wins over the tie flag: the released 2B says tied and yet stores one.
  const head = await source.matrix({
    name: source.has("decoder.head") ? "decoder.head" : "decoder.embedding",
    rows,
    columns: hiddenWidth,
    quantised: true,
  });
  return { vision, adapter, decoder: { embedding, layers, norm, head } };
}

async function biasedLinear(
  source: ParameterSource,
  name: string,
  rows: number,
  columns: number,
): Promise<Linear> {
  return {
    weight: await source.matrix({ name: `${name}.weight`, rows, columns }),
    bias: await source.vector(`${name}.bias`, rows),
  };
}

/** A linear whose bias is used when the file has one. */
async function linear(
  source: ParameterSource,
  name: string,
  size: { rows: number; columns: number; quantised?: boolean },
): Promise<Linear> {
  return {
    weight: await source.matrix({ name: `${name}.weight`, ...size }),
    bias: source.has(`${name}.bias`) ? await source.vector(`${name}.bias`, size.rows) : undefined,
  };
}

async function walkVision(
  config: ModelConfig,
  source: ParameterSource,
): Promise<Parameters["vision"]> {
  const { hiddenWidth, patchSize, layers, featureLayer } = config.vision;
  const patches = Math.floor(config.preprocess.tileSize / patchSize) ** 2;
  const position = await source.vector("vision.position", patches * hiddenWidth);
  const result: VisionLayer[] = [];
  for (let i = 0; i < layers; i++) result.push(await walkVisionLayer(config, source, i));
  return {
    patch: await biasedLinear(source, "vision.patch", hiddenWidth, 3 * patchSize ** 2),
    patchNorm: await source.vector("vision.patchNorm.weight", hiddenWidth),
    position: { ...position, shape: [patches, hiddenWidth] },
    layers: result,
    norm: featureLayer === "normed" || source.has("vision.norm.weight")
      ? await source.vector("vision.norm.weight", hiddenWidth)
      : undefined,
  };
}

async function walkVisionLayer(
  config: ModelConfig,
  source: ParameterSource,
  index: number,
): Promise<VisionLayer> {
  const { hiddenWidth, intermediateWidth } = config.vision;
  const at = `vision.${index}`;
  const square = { rows: hiddenWidth, columns: hiddenWidth };
  const wide = { rows: intermediateWidth, columns: hiddenWidth };
  const projection = async (which: "query" | "key" | "value", third: number): Promise<Linear> => {
    // One stored tensor holds q, k and v rows; transformers' aimv2 stores them apart.
    if (source.has(`${at}.${which}.weight`)) return await linear(source, `${at}.${which}`, square);
    const part = { first: third * hiddenWidth, stored: 3 * hiddenWidth };
    return {
      weight: await source.matrix({
        name: `${at}.qkv.weight`,
        ...square,
        firstRow: part.first,
        storedRows: part.stored,
      }),
      bias: source.has(`${at}.qkv.bias`)
        ? await source.vector(`${at}.qkv.bias`, hiddenWidth, part)
        : undefined,
    };
  };
  return {
    attentionNorm: await source.vector(`${at}.attentionNorm.weight`, hiddenWidth),
    query: await projection("query", 0),
    key: await projection("key", 1),
    value: await projection("value", 2),
    output: await linear(source, `${at}.output`, square),
    mlpNorm: await source.vector(`${at}.mlpNorm.weight`, hiddenWidth),
    mlp: {
      gate: await linear(source, `${at}.gate`, wide),
      up: await linear(source, `${at}.up`, wide),
      down: await linear(source, `${at}.down`, { rows: hiddenWidth, columns: intermediateWidth }),
    },
  };
}

async function walkDecoderLayer(
  config: DecoderConfig,
  source: ParameterSource,
  index: number,
): Promise<DecoderLayer> {
  const { hiddenWidth, headWidth } = config;
  const queryWidth = config.heads * headWidth;
  const kvWidth = config.kvHeads * headWidth;
  const at = `decoder.${index}`;
  const into = (rows: number) => ({ rows, columns: hiddenWidth, quantised: true });
  return {
    attentionNorm: await source.vector(`${at}.attentionNorm.weight`, hiddenWidth),
    query: await linear(source, `${at}.query`, into(queryWidth)),
    key: await linear(source, `${at}.key`, into(kvWidth)),
    value: await linear(source, `${at}.value`, into(kvWidth)),
    output: await linear(source, `${at}.output`, {
      rows: hiddenWidth,
      columns: queryWidth,
      quantised: true,
    }),
    queryNorm: await source.vector(`${at}.queryNorm.weight`, headWidth),
    keyNorm: await source.vector(`${at}.keyNorm.weight`, headWidth),
    mlpNorm: await source.vector(`${at}.mlpNorm.weight`, hiddenWidth),
    feedForward: await walkFeedForward(config, source, index),
  };
}

async function walkFeedForward(
  config: DecoderConfig,
  source: ParameterSource,
  index: number,
): Promise<DecoderLayer["feedForward"]> {
  const { hiddenWidth, intermediateWidth, moe } = config;
  const at = `decoder.${index}`;
  if (moe === undefined || !isSparseLayer(config, index)) {
    const wide = { rows: intermediateWidth, columns: hiddenWidth, quantised: true };
    const narrow = { rows: hiddenWidth, columns: intermediateWidth, quantised: true };
    return {
      kind: "dense",
      mlp: {
        gate: await linear(source, `${at}.gate`, wide),
        up: await linear(source, `${at}.up`, wide),
        down: await linear(source, `${at}.down`, narrow),
      },
    };
  }
  const { experts, intermediateWidth: width } = moe;
  const wide = { layer: index, rows: width, columns: hiddenWidth, experts };
  return {
    kind: "sparse",
    moe: {
      gate: await source.matrix({
        name: `${at}.moeGate.weight`,
        rows: experts,
        columns: hiddenWidth,
      }),
      expertGate: await source.experts({ ...wide, part: "gate" }),
      expertUp: await source.experts({ ...wide, part: "up" }),
      expertDown: await source.experts({
        layer: index,
        part: "down",
        rows: hiddenWidth,
        columns: width,
        experts,
      }),
    },
  };
}
