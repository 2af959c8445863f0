/**
 * Writes a model's configuration as checkpoints spell it: the inverse of `config.ts`, for models
 * that are made here. Keys that a file has and a configuration does not say stay as they are.
 */
import type { DecoderConfig, ModelConfig, VisionConfig } from "./config.ts";

type Json = Record<string, unknown>;

/** Ids that a new model's files name. */
export interface ModelTokenIds {
  readonly end: number;
  readonly padding: number;
}

export interface WrittenConfig {
  /** Texts of `config.json` and `preprocessor_config.json`. */
  readonly config: string;
  readonly preprocessor: string;
}

/** `before`: the texts of the model that this one was made of. */
export function writeModelConfig(
  config: ModelConfig,
  { before, tokenIds }: { before?: Partial<WrittenConfig>; tokenIds?: ModelTokenIds } = {},
): WrittenConfig {
  const old = JSON.parse(before?.config ?? "{}") as Json;
  const { tileSize, maxTiles, msac, mean, deviation } = config.preprocess;
  const { layers, patchSize, featureLayer } = config.vision;
  const json = {
    ...releaseDefaults,
    ...old,
    downsample_ratio: 1 / config.mergeFactor,
    force_image_size: tileSize,
    llm_config: {
      ...old["llm_config"] as Json,
      ...decoderJson(config.decoder),
      ...tokenIds && {
        bos_token_id: tokenIds.padding,
        eos_token_id: tokenIds.end,
        pad_token_id: tokenIds.padding,
      },
    },
    max_dynamic_patch: maxTiles,
    ps_version: config.mergeOrder,
    select_layer: featureLayer === "normed" ? -1 : featureLayer - layers,
    template: config.template,
    tie_word_embeddings: config.decoder.tiedEmbedding,
    vision_config: { ...old["vision_config"] as Json, ...visionJson(config.vision, tileSize) },
  };
  const preprocessor = {
    pad_input: true,
    ...JSON.parse(before?.preprocessor ?? "{}") as Json,
    max_dynamic_patch: maxTiles,
    patch_size: patchSize,
    image_size: tileSize,
    use_msac: msac,
    image_mean: mean,
    image_std: deviation,
  };
  return { config: textOf(json), preprocessor: textOf(preprocessor) };
}

function textOf(json: unknown): string {
  return JSON.stringify(json, null, 1) + "\n";
}

/** Keys that other software reads and no configuration here changes. */
const releaseDefaults: Json = {
  architectures: ["SAILVLModel"],
  auto_map: {
    AutoConfig: "configuration_sailvl.SAILVLConfig",
    AutoModel: "modeling_sailvl.SAILVLModel",
  },
  dynamic_image_size: true,
  min_dynamic_patch: 1,
  model_type: "sailvl",
  pad2square: false,
  torch_dtype: "bfloat16",
  use_backbone_lora: 0,
  use_llm_lora: 0,
  use_thumbnail: true,
};

function decoderJson(decoder: DecoderConfig): Json {
  const { moe } = decoder;
  return {
    architectures: [moe ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM"],
    model_type: moe ? "qwen3_moe" : "qwen3",
    hidden_size: decoder.hiddenWidth,
    intermediate_size: decoder.intermediateWidth,
    num_hidden_layers: decoder.layers,
    num_attention_heads: decoder.heads,
    num_key_value_heads: decoder.kvHeads,
    head_dim: decoder.headWidth,
    hidden_act: "silu",
    rms_norm_eps: decoder.epsilon,
    rope_theta: decoder.ropeTheta,
    rope_scaling: null,
    max_position_embeddings: decoder.contextTokensMax,
    tie_word_embeddings: decoder.tiedEmbedding,
    attention_bias: false,
    attention_dropout: 0,
    use_sliding_window: false,
    sliding_window: null,
    max_window_layers: decoder.layers,
    torch_dtype: "bfloat16",
    use_cache: true,
    ...decoder.vocabularySize !== undefined && { vocab_size: decoder.vocabularySize },
    ...moe && {
      num_experts: moe.experts,
      num_experts_per_tok: moe.expertsPerToken,
      norm_topk_prob: moe.normalizeTopK,
      decoder_sparse_step: moe.sparseStep,
      mlp_only_layers: moe.denseLayers,
      moe_intermediate_size: moe.intermediateWidth,
    },
  };
}

function visionJson(vision: VisionConfig, tileSize: number): Json {
  return {
    architectures: ["SAILViTModel"],
    model_type: "sailvit",
    hidden_size: vision.hiddenWidth,
    intermediate_size: vision.intermediateWidth,
    num_hidden_layers: vision.layers,
    num_attention_heads: vision.heads,
    num_channels: 3,
    image_size: tileSize,
    patch_size: vision.patchSize,
    rms_norm_eps: vision.epsilon,
    attention_dropout: 0,
    projection_dropout: 0,
    qkv_bias: false,
    use_bias: false,
    torch_dtype: "bfloat16",
  };
}
