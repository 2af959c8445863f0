/**
 * Weights of a model on a backend. The same walk over the architecture runs twice: once to check
 * that every tensor exists in its shape (all problems in one error), once to stream the bytes.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import type { PackedFolder } from "@/weights/packed_folder.ts";
import type { Precision } from "@/weights/precision.ts";
import { type DecoderConfig, isSparseLayer, type ModelConfig } from "./config.ts";
import { CheckingSource, ListingSource, UploadingSource } from "./checkpoint_parameters.ts";
import { ExpertlessSource } from "./expertless_source.ts";
import type { HostPlacement } from "./host_layers.ts";
import type { HostParts } from "./host_parts.ts";
import { CheckingPackedSource, CopyingSource } from "./packed_parameters.ts";
import type { LoadProgress, ParameterSource } from "./parameter_source.ts";
import { joinedProgress, SplitSource } from "./split_source.ts";

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

/**
 * Checks names, types and shapes of a whole checkpoint; throws one OperatingError with all faults.
 * Returns the bytes of the tensors that the model uses.
 */
export async function checkParameters(
  checkpoint: Checkpoint,
  config: ModelConfig,
): Promise<number> {
  const checking = new CheckingSource(checkpoint);
  await walkParameters(config, checking);
  checking.reportUnused();
  checkpoint.problems.throwIfAny(checkpoint.label);
  return checking.usedBytes;
}

/** Checks a checkpoint, then streams it to the backend tensor by tensor. */
export async function loadParameters(args: {
  checkpoint: Checkpoint;
  config: ModelConfig;
  backend: Backend;
  precision: Precision;
  /** Experts are computed elsewhere: only their shapes are made. */
  withoutExperts?: boolean;
  /** Another backend, and what it gets. */
  host?: HostPlacement | undefined;
  onProgress?: LoadProgress;
}): Promise<Parameters> {
  const { checkpoint, config, host } = args;
  const usedBytes = await checkParameters(checkpoint, config);
  const progress = joinedProgress(args.onProgress, () => usedBytes);
  const sourceOn = (backend: Backend) => {
    const decoderLayers = config.decoder.layers;
    return new UploadingSource(
      { ...args, backend, decoderLayers, onProgress: progress() },
      usedBytes,
    );
  };
  const device = sourceOn(args.backend);
  const { withoutExperts = false } = args;
  return await walkParameters(
    config,
    partedSource({
      device,
      host: host && sourceOn(host.backend),
      parts: host?.parts,
      withoutExperts,
    }),
  );
}

function partedSource(args: {
  device: ParameterSource;
  host: ParameterSource | undefined;
  parts: HostParts | undefined;
  withoutExperts: boolean;
}): ParameterSource {
  const { device, host, parts, withoutExperts } = args;
  const source = host && parts ? new SplitSource({ device, host, parts }) : device;
  return withoutExperts ? new ExpertlessSource(source) : source;
}

/** Checks a packed folder against the configuration, then copies it to the backend. */
export async function loadPackedParameters(args: {
  packed: PackedFolder;
  config: ModelConfig;
  backend: Backend;
  /** See `loadParameters`. */
  withoutExperts?: boolean;
  /** See `loadParameters`. */
  host?: HostPlacement | undefined;
  onProgress?: LoadProgress;
}): Promise<Parameters> {
  const { packed, config, host, withoutExperts = false } = args;
  const checking = new CheckingPackedSource(packed);
  await walkParameters(config, checking);
  checking.reportUnused();
  packed.problems.throwIfAny(packed.label);
  const made: CopyingSource[] = [];
  const totalBytes = () => made.reduce((sum, source) => sum + source.totalBytes, 0);
  const progress = joinedProgress(args.onProgress, totalBytes);
  const sourceOn = (backend: Backend) => {
    const source = new CopyingSource({ packed, backend, onProgress: progress() });
    made.push(source);
    return source;
  };
  const device = sourceOn(args.backend);
  const parameters = await walkParameters(
    config,
    partedSource({
      device,
      host: host && sourceOn(host.backend),
      parts: host?.parts,
      withoutExperts,
    }),
  );
  for (const source of made) await source.copyAll();
  return parameters;
}

/** Canonical names and shapes of every tensor that a configuration implies. */
export async function impliedTensors(
  config: ModelConfig,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const listing = new ListingSource(!config.decoder.tiedEmbedding);
  await walkParameters(config, listing);
  return listing.shapes;
}

/** Asks `source` for every weight of the configured model, always in the same order. */
export async function walkParameters(
  config: ModelConfig,
  source: ParameterSource,
): Promise<Parameters> {
  const vision = await walkVision(config, source);
  const { hiddenWidth } = config.decoder;
  const merged = config.vision.hiddenWidth * config.mergeFactor ** 2;
  const adapter = {
    normWeight: await source.vector({ name: "adapter.norm.weight", size: merged }),
    normBias: await source.vector({ name: "adapter.norm.bias", size: merged }),
    hidden: await biasedLinear(source, "adapter.hidden", {
      rows: hiddenWidth,
      columns: merged,
    }),
    output: await biasedLinear(source, "adapter.output", {
      rows: hiddenWidth,
      columns: hiddenWidth,
    }),
  };
  const rows = source.rowsOf("decoder.embedding") || (config.decoder.vocabularySize ?? 1);
  const embedding = await source.matrix({ name: "decoder.embedding", rows, columns: hiddenWidth });
  const layers: DecoderLayer[] = [];
  for (let i = 0; i < config.decoder.layers; i++) {
    layers.push(await walkDecoderLayer(config.decoder, source, i));
  }
  const norm = await source.vector({ name: "decoder.norm.weight", size: hiddenWidth });
  // A stored head wins over the tie flag: the released 2B says tied and yet stores one.
  const head = await source.matrix({
    name: "decoder.head",
    rows,
    columns: hiddenWidth,
    ...(!source.has("decoder.head") && {
      stored: { name: "decoder.embedding", firstRow: 0, rows },
    }),
  });
  return { vision, adapter, decoder: { embedding, layers, norm, head } };
}

async function biasedLinear(
  source: ParameterSource,
  name: string,
  size: { rows: number; columns: number },
): Promise<Linear> {
  return {
    weight: await source.matrix({ name: `${name}.weight`, ...size }),
    bias: await source.vector({ name: `${name}.bias`, size: size.rows }),
  };
}

/** A linear whose bias is used when the file has one. */
async function linear(
  source: ParameterSource,
  name: string,
  size: { rows: number; columns: number },
): Promise<Linear> {
  const bias = `${name}.bias`;
  return {
    weight: await source.matrix({ name: `${name}.weight`, ...size }),
    bias: source.has(bias) ? await source.vector({ name: bias, size: size.rows }) : undefined,
  };
}

async function walkVision(
  config: ModelConfig,
  source: ParameterSource,
): Promise<Parameters["vision"]> {
  const { hiddenWidth, patchSize, layers, featureLayer } = config.vision;
  const patches = Math.floor(config.preprocess.tileSize / patchSize) ** 2;
  const position = await source.vector({
    name: "vision.position",
    size: patches * hiddenWidth,
  });
  const result: VisionLayer[] = [];
  for (let i = 0; i < layers; i++) result.push(await walkVisionLayer(config, source, i));
  return {
    patch: await biasedLinear(source, "vision.patch", {
      rows: hiddenWidth,
      columns: 3 * patchSize ** 2,
    }),
    patchNorm: await source.vector({ name: "vision.patchNorm.weight", size: hiddenWidth }),
    position: { ...position, shape: [patches, hiddenWidth] },
    layers: result,
    norm: featureLayer === "normed" || source.has("vision.norm.weight")
      ? await source.vector({ name: "vision.norm.weight", size: hiddenWidth })
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
    const [first, size] = [third * hiddenWidth, 3 * hiddenWidth];
    const weight = await source.matrix({
      name: `${at}.${which}.weight`,
      ...square,
      stored: { name: `${at}.qkv.weight`, firstRow: first, rows: size },
    });
    if (!source.has(`${at}.qkv.bias`)) return { weight, bias: undefined };
    const stored = { name: `${at}.qkv.bias`, first, size };
    const bias = { name: `${at}.${which}.bias`, size: hiddenWidth, stored };
    return { weight, bias: await source.vector(bias) };
  };
  return {
    attentionNorm: await source.vector({ name: `${at}.attentionNorm.weight`, size: hiddenWidth }),
    query: await projection("query", 0),
    key: await projection("key", 1),
    value: await projection("value", 2),
    output: await linear(source, `${at}.output`, square),
    mlpNorm: await source.vector({ name: `${at}.mlpNorm.weight`, size: hiddenWidth }),
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
  const into = (rows: number) => ({ rows, columns: hiddenWidth });
  return {
    attentionNorm: await source.vector({ name: `${at}.attentionNorm.weight`, size: hiddenWidth }),
    query: await linear(source, `${at}.query`, into(queryWidth)),
    key: await linear(source, `${at}.key`, into(kvWidth)),
    value: await linear(source, `${at}.value`, into(kvWidth)),
    output: await linear(source, `${at}.output`, {
      rows: hiddenWidth,
      columns: queryWidth,
    }),
    queryNorm: await source.vector({ name: `${at}.queryNorm.weight`, size: headWidth }),
    keyNorm: await source.vector({ name: `${at}.keyNorm.weight`, size: headWidth }),
    mlpNorm: await source.vector({ name: `${at}.mlpNorm.weight`, size: hiddenWidth }),
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
    const wide = { rows: intermediateWidth, columns: hiddenWidth };
    const narrow = { rows: hiddenWidth, columns: intermediateWidth };
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
