/**
 * Model configuration, read from a checkpoint's JSON files. One of the two files that know
 * checkpoint spelling; defaults are those of the released config classes.
 */
import { OperatingError } from "@/errors.ts";

export interface VisionConfig {
  readonly hiddenWidth: number;
  readonly intermediateWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly patchSize: number;
  readonly epsilon: number;
  /** Index of the layer whose output is the feature, or "normed": the last one after the final norm. */
  readonly featureLayer: number | "normed";
}

export interface MoeConfig {
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly intermediateWidth: number;
  /** Divide the chosen probabilities by their sum. */
  readonly normalizeTopK: boolean;
  /** Layer i is sparse when (i + 1) % step == 0 and it is not listed as dense. */
  readonly sparseStep: number;
  readonly denseLayers: readonly number[];
}

export interface DecoderConfig {
  readonly hiddenWidth: number;
  readonly intermediateWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly epsilon: number;
  readonly ropeTheta: number;
  readonly contextTokensMax: number;
  /** Rows of the embedding as configured; the tensor's row count decides. */
  readonly vocabularySize: number | undefined;
  readonly endTokenIds: readonly number[];
  readonly moe: MoeConfig | undefined;
  /** What the configuration says; a stored head tensor wins over it. */
  readonly tiedEmbedding: boolean;
}

export interface PreprocessConfig {
  readonly tileSize: number;
  readonly minTiles: number;
  readonly maxTiles: number;
  readonly thumbnail: boolean;
  readonly msac: boolean;
  readonly mean: readonly [number, number, number];
  readonly deviation: readonly [number, number, number];
}

export interface ModelConfig {
  readonly vision: VisionConfig;
  readonly decoder: DecoderConfig;
  /** Patches merged per side (2 = 2x2). */
  readonly mergeFactor: number;
  /** "v2": visual tokens row-major; "v1": the transposed order. */
  readonly mergeOrder: "v1" | "v2";
  readonly preprocess: PreprocessConfig;
  /** Name of the prompt grammar, e.g. "univl-chat". */
  readonly template: string;
}

/** Visual tokens of one tile. */
export function tokensPerTile(config: ModelConfig): number {
  const patches = Math.floor(config.preprocess.tileSize / config.vision.patchSize);
  return Math.floor(patches / config.mergeFactor) ** 2;
}

/** Whether decoder layer `index` routes to experts. */
export function isSparseLayer(config: DecoderConfig, index: number): boolean {
  const moe = config.moe;
  return moe !== undefined && !moe.denseLayers.includes(index) &&
    (index + 1) % moe.sparseStep === 0;
}

type Json = Record<string, unknown>;

/** Reads one JSON object with messages that name file, key and expectation. */
class ConfigReader {
  constructor(readonly file: string, readonly path: string, readonly json: Json) {}

  fail(key: string, expected: string): never {
    const value = JSON.stringify(this.json[key]);
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot use ${this.file}: ${this.path}${key} is ${value ?? "missing"}, expected ${expected}`,
    );
  }

  object(key: string): ConfigReader {
    const value = this.json[key];
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      this.fail(key, "an object");
    }
    return new ConfigReader(this.file, `${this.path}${key}.`, value as Json);
  }

  size(key: string, fallback?: number): number {
    const value = this.json[key] ?? fallback;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1) {
      this.fail(key, "a positive integer");
    }
    return value;
  }

  integer(key: string, fallback: number): number {
    const value = this.json[key] ?? fallback;
    if (typeof value !== "number" || !Number.isSafeInteger(value)) this.fail(key, "an integer");
    return value;
  }

  positive(key: string, fallback?: number): number {
    const value = this.json[key] ?? fallback;
    if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) {
      this.fail(key, "a positive number");
    }
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.json[key] ?? fallback;
    if (typeof value !== "boolean") this.fail(key, "true or false");
    return value;
  }

  string(key: string, fallback: string): string {
    const value = this.json[key] ?? fallback;
    if (typeof value !== "string") this.fail(key, "a string");
    return value;
  }

  numbers(key: string, fallback: readonly number[]): readonly number[] {
    const value = this.json[key] ?? fallback;
    if (!Array.isArray(value) || !value.every((item) => typeof item === "number")) {
      this.fail(key, "a list of numbers");
    }
    return value as readonly number[];
  }
}

function readVision(root: ConfigReader): VisionConfig {
  const reader = root.object("vision_config");
  const layers = reader.size("num_hidden_layers", 24);
  const hiddenWidth = reader.size("hidden_size", 1024);
  const heads = reader.size("num_attention_heads", 8);
  if (hiddenWidth % heads !== 0) reader.fail("hidden_size", `a multiple of ${heads} heads`);
  const selected = root.integer("select_layer", -4);
  if (selected >= layers || selected < -layers) {
    root.fail("select_layer", `a layer of the ${layers} in the vision tower`);
  }
  return {
    hiddenWidth,
    intermediateWidth: reader.size("intermediate_size", 2816),
    layers,
    heads,
    patchSize: reader.size("patch_size", 14),
    epsilon: reader.positive("rms_norm_eps", 1e-5),
    featureLayer: selected === -1 ? "normed" : selected < 0 ? layers + selected : selected,
  };
}

function readMoe(reader: ConfigReader): MoeConfig | undefined {
  const experts = reader.json.num_experts;
  if (experts === undefined || experts === null || experts === 0) return undefined;
  const count = reader.size("num_experts");
  const expertsPerToken = reader.size("num_experts_per_tok", 8);
  if (expertsPerToken > count) reader.fail("num_experts_per_tok", `at most ${count}`);
  return {
    experts: count,
    expertsPerToken,
    intermediateWidth: reader.size("moe_intermediate_size", 768),
    normalizeTopK: reader.boolean("norm_topk_prob", false),
    sparseStep: reader.size("decoder_sparse_step", 1),
    denseLayers: reader.numbers("mlp_only_layers", []),
  };
}

function readDecoder(root: ConfigReader, generation: Json): DecoderConfig {
  const reader = root.object("llm_config");
  const heads = reader.size("num_attention_heads");
  const kvHeads = reader.size("num_key_value_heads", heads);
  if (heads % kvHeads !== 0) {
    reader.fail("num_attention_heads", `a multiple of ${kvHeads} key-value heads`);
  }
  const hiddenWidth = reader.size("hidden_size");
  const headWidth = reader.size("head_dim", Math.floor(hiddenWidth / heads));
  if (headWidth % 2 !== 0) reader.fail("head_dim", "an even number");
  const scaling = reader.json.rope_scaling;
  if (scaling !== undefined && scaling !== null) {
    reader.fail("rope_scaling", "null (scaled positions are not supported)");
  }
  if (reader.boolean("use_sliding_window", false)) {
    reader.fail("use_sliding_window", "false (sliding windows are not supported)");
  }
  const activation = reader.string("hidden_act", "silu");
  if (activation !== "silu") reader.fail("hidden_act", `"silu"`);
  return {
    hiddenWidth,
    intermediateWidth: reader.size("intermediate_size"),
    layers: reader.size("num_hidden_layers"),
    heads,
    kvHeads,
    headWidth,
    epsilon: reader.positive("rms_norm_eps", 1e-6),
    ropeTheta: reader.positive("rope_theta", 10000),
    contextTokensMax: reader.size("max_position_embeddings", 32768),
    vocabularySize: reader.json.vocab_size === undefined ? undefined : reader.size("vocab_size"),
    endTokenIds: endTokens(reader, generation),
    moe: readMoe(reader),
    tiedEmbedding: reader.boolean(
      "tie_word_embeddings",
      root.boolean("tie_word_embeddings", false),
    ),
  };
}

/** End and padding ids of both files: the released model stops at either. */
function endTokens(reader: ConfigReader, generation: Json): number[] {
  const ids = new Set<number>();
  for (const json of [reader.json, generation]) {
    for (const key of ["eos_token_id", "pad_token_id"]) {
      for (const id of [json[key]].flat()) if (typeof id === "number") ids.add(id);
    }
  }
  return [...ids].sort((a, b) => a - b);
}

function triple(reader: ConfigReader, key: string, fallback: readonly number[]) {
  const values = reader.numbers(key, fallback);
  if (values.length !== 3) reader.fail(key, "three numbers");
  return values as [number, number, number];
}

function readPreprocess(root: ConfigReader, json: Json): PreprocessConfig {
  const reader = new ConfigReader("preprocessor_config.json", "", json);
  const vision = root.object("vision_config");
  const tileSize = root.json.force_image_size === undefined || root.json.force_image_size === null
    ? vision.size("image_size", 224)
    : root.size("force_image_size");
  if (reader.size("image_size", tileSize) !== tileSize) {
    reader.fail("image_size", `${tileSize} as in config.json`);
  }
  return {
    tileSize,
    minTiles: 1,
    maxTiles: reader.size("max_dynamic_patch", 10),
    thumbnail: true,
    msac: reader.boolean("use_msac", false),
    mean: triple(reader, "image_mean", [0.485, 0.456, 0.406]),
    deviation: triple(reader, "image_std", [0.229, 0.224, 0.225]),
  };
}

function asObject(file: string, value: unknown): Json {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  throw new OperatingError("checkpoint_invalid", `Cannot use ${file}: it is not a JSON object`);
}

/** Parsed JSON files of a checkpoint folder. Missing optional files are undefined. */
export interface ConfigFiles {
  readonly config: unknown;
  readonly preprocessor?: unknown;
  readonly generation?: unknown;
}

/** Reads a SAIL-VL2 configuration; throws OperatingError("checkpoint_invalid") naming the key. */
export function readModelConfig(files: ConfigFiles): ModelConfig {
  if (files.config === undefined) {
    throw new OperatingError("checkpoint_invalid", "Cannot load model: config.json is missing");
  }
  const root: ConfigReader = new ConfigReader(
    "config.json",
    "",
    asObject("config.json", files.config),
  );
  const generation = asObject("generation_config.json", files.generation ?? {});
  const preprocess = readPreprocess(
    root,
    asObject("preprocessor_config.json", files.preprocessor ?? {}),
  );
  const vision = readVision(root);
  const ratio = root.positive("downsample_ratio", 0.5);
  // int(1 / ratio) is the rule of the released code.
  const mergeFactor = Math.trunc(1 / ratio);
  if (mergeFactor < 1) root.fail("downsample_ratio", "at most 1");
  const patches = Math.floor(preprocess.tileSize / vision.patchSize);
  if (preprocess.tileSize % vision.patchSize !== 0 || patches % mergeFactor !== 0) {
    root.fail(
      "force_image_size",
      `a multiple of ${vision.patchSize * mergeFactor} (patch size times merge)`,
    );
  }
  const order = root.string("ps_version", "v1");
  if (order !== "v1" && order !== "v2") root.fail("ps_version", `"v1" or "v2"`);
  return {
    vision,
    decoder: readDecoder(root, generation),
    mergeFactor,
    mergeOrder: order,
    preprocess,
    template: root.string("template", "univl-chat"),
  };
}

/**
 * Configuration of a language model alone, as `config.json` of a text model spells it, with a vision
 * tower of the smallest size that nothing uses. For checks of the decoder.
 */
export function readLanguageConfig(config: Json): ModelConfig {
  return readModelConfig({
    config: {
      llm_config: { max_position_embeddings: 64, ...config },
      vision_config: {
        num_hidden_layers: 1,
        hidden_size: 8,
        num_attention_heads: 1,
        intermediate_size: 8,
        patch_size: 2,
        image_size: 4,
      },
      select_layer: -1,
    },
  });
}
