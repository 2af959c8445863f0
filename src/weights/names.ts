/**
 * The one table between the spelling of checkpoints and our canonical tensor names. Sources: the
 * released SAIL-VL2-2B index, transformers' `aimv2`, `qwen3` and `qwen3_moe` modules.
 */

/** Canonical tensor name, e.g. "decoder.3.query.weight" or "decoder.3.experts.7.up.weight". */
export type TensorName = string;

interface NameRow {
  /** Spelling without prefixes; {i} layer, {e} expert, {s} "weight" or "bias". */
  readonly stored: string;
  readonly canonical: string;
}

const visionRows: readonly NameRow[] = [
  { stored: "preprocessor.patchifier.proj.{s}", canonical: "vision.patch.{s}" },
  { stored: "preprocessor.patchifier.norm.weight", canonical: "vision.patchNorm.weight" },
  { stored: "preprocessor.pos_embed", canonical: "vision.position" },
  { stored: "trunk.blocks.{i}.norm_1.weight", canonical: "vision.{i}.attentionNorm.weight" },
  { stored: "trunk.blocks.{i}.norm_2.weight", canonical: "vision.{i}.mlpNorm.weight" },
  { stored: "trunk.blocks.{i}.attn.qkv.{s}", canonical: "vision.{i}.qkv.{s}" },
  { stored: "trunk.blocks.{i}.attn.proj.{s}", canonical: "vision.{i}.output.{s}" },
  { stored: "trunk.blocks.{i}.mlp.fc1.{s}", canonical: "vision.{i}.gate.{s}" },
  { stored: "trunk.blocks.{i}.mlp.fc3.{s}", canonical: "vision.{i}.up.{s}" },
  { stored: "trunk.blocks.{i}.mlp.fc2.{s}", canonical: "vision.{i}.down.{s}" },
  { stored: "trunk.post_trunk_norm.weight", canonical: "vision.norm.weight" },
  // transformers' own aimv2 module.
  { stored: "embeddings.patch_embed.{s}", canonical: "vision.patch.{s}" },
  { stored: "embeddings.rms_norm.weight", canonical: "vision.patchNorm.weight" },
  { stored: "embeddings.position_embedding.weight", canonical: "vision.position" },
  { stored: "encoder.layers.{i}.rms_norm1.weight", canonical: "vision.{i}.attentionNorm.weight" },
  { stored: "encoder.layers.{i}.rms_norm2.weight", canonical: "vision.{i}.mlpNorm.weight" },
  { stored: "encoder.layers.{i}.attention.q_proj.{s}", canonical: "vision.{i}.query.{s}" },
  { stored: "encoder.layers.{i}.attention.k_proj.{s}", canonical: "vision.{i}.key.{s}" },
  { stored: "encoder.layers.{i}.attention.v_proj.{s}", canonical: "vision.{i}.value.{s}" },
  { stored: "encoder.layers.{i}.attention.out_proj.{s}", canonical: "vision.{i}.output.{s}" },
  { stored: "encoder.layers.{i}.ffn.gate_proj.{s}", canonical: "vision.{i}.gate.{s}" },
  { stored: "encoder.layers.{i}.ffn.up_proj.{s}", canonical: "vision.{i}.up.{s}" },
  { stored: "encoder.layers.{i}.ffn.down_proj.{s}", canonical: "vision.{i}.down.{s}" },
  { stored: "rms_norm.weight", canonical: "vision.norm.weight" },
];

const adapterRows: readonly NameRow[] = [
  { stored: "mlp1.0.{s}", canonical: "adapter.norm.{s}" },
  { stored: "mlp1.1.{s}", canonical: "adapter.hidden.{s}" },
  { stored: "mlp1.3.{s}", canonical: "adapter.output.{s}" },
];

const decoderRows: readonly NameRow[] = [
  { stored: "embed_tokens.weight", canonical: "decoder.embedding" },
  { stored: "layers.{i}.input_layernorm.weight", canonical: "decoder.{i}.attentionNorm.weight" },
  {
    stored: "layers.{i}.post_attention_layernorm.weight",
    canonical: "decoder.{i}.mlpNorm.weight",
  },
  { stored: "layers.{i}.self_attn.q_proj.{s}", canonical: "decoder.{i}.query.{s}" },
  { stored: "layers.{i}.self_attn.k_proj.{s}", canonical: "decoder.{i}.key.{s}" },
  { stored: "layers.{i}.self_attn.v_proj.{s}", canonical: "decoder.{i}.value.{s}" },
  { stored: "layers.{i}.self_attn.o_proj.{s}", canonical: "decoder.{i}.output.{s}" },
  { stored: "layers.{i}.self_attn.q_norm.weight", canonical: "decoder.{i}.queryNorm.weight" },
  { stored: "layers.{i}.self_attn.k_norm.weight", canonical: "decoder.{i}.keyNorm.weight" },
  { stored: "layers.{i}.mlp.gate_proj.weight", canonical: "decoder.{i}.gate.weight" },
  { stored: "layers.{i}.mlp.up_proj.weight", canonical: "decoder.{i}.up.weight" },
  { stored: "layers.{i}.mlp.down_proj.weight", canonical: "decoder.{i}.down.weight" },
  { stored: "layers.{i}.mlp.gate.weight", canonical: "decoder.{i}.moeGate.weight" },
  {
    stored: "layers.{i}.mlp.experts.{e}.gate_proj.weight",
    canonical: "decoder.{i}.experts.{e}.gate.weight",
  },
  {
    stored: "layers.{i}.mlp.experts.{e}.up_proj.weight",
    canonical: "decoder.{i}.experts.{e}.up.weight",
  },
  {
    stored: "layers.{i}.mlp.experts.{e}.down_proj.weight",
    canonical: "decoder.{i}.experts.{e}.down.weight",
  },
  // transformers 5 re-saves: all experts in one 3-D tensor, gate rows before up rows.
  { stored: "layers.{i}.mlp.experts.gate_up_proj", canonical: "decoder.{i}.experts.gateUp" },
  { stored: "layers.{i}.mlp.experts.down_proj", canonical: "decoder.{i}.experts.down" },
  { stored: "norm.weight", canonical: "decoder.norm.weight" },
  { stored: "lm_head.weight", canonical: "decoder.head" },
];

interface CompiledRow extends NameRow {
  readonly pattern: RegExp;
}

function compile(rows: readonly NameRow[], prefix: string): CompiledRow[] {
  return rows.map((row) => {
    const body = row.stored.replaceAll(".", "\\.")
      .replace("{i}", "(?<i>\\d+)").replace("{e}", "(?<e>\\d+)").replace(
        "{s}",
        "(?<s>weight|bias)",
      );
    return { ...row, pattern: new RegExp(`^${prefix}${body}$`) };
  });
}

// Re-saved checkpoints lack `language_model.` or carry `model.` in front.
const compiledRows: readonly CompiledRow[] = [
  ...compile(visionRows, "(?:model\\.)*(?:vision_model|vision_tower)\\.(?:vision_model\\.)?"),
  ...compile(adapterRows, "(?:model\\.)*"),
  ...compile(decoderRows, "(?:model\\.|language_model\\.)*"),
];

/** Canonical name of a stored tensor; undefined when no part of the model has such a tensor. */
export function canonicalName(stored: string): TensorName | undefined {
  for (const row of compiledRows) {
    const groups = row.pattern.exec(stored)?.groups;
    if (groups === undefined) {
      if (row.pattern.test(stored)) return row.canonical;
      continue;
    }
    return row.canonical.replace("{i}", groups.i ?? "").replace("{e}", groups.e ?? "")
      .replace("{s}", groups.s ?? "");
  }
  return undefined;
}

/** The released spelling of a canonical name, for messages. */
export function releasedName(name: TensorName): string {
  for (const [rows, prefix] of releasedParts) {
    for (const row of rows) {
      const body = row.canonical.replaceAll(".", "\\.")
        .replace("{i}", "(?<i>\\d+)").replace("{e}", "(?<e>\\d+)")
        .replace("{s}", "(?<s>weight|bias)");
      const match = new RegExp(`^${body}$`).exec(name);
      if (!match) continue;
      const groups = match.groups ?? {};
      const stored = row.stored.replace("{i}", groups.i ?? "").replace("{e}", groups.e ?? "")
        .replace("{s}", groups.s ?? "");
      return (stored.startsWith("lm_head") ? "language_model." : prefix) + stored;
    }
  }
  return name;
}

const releasedParts: readonly (readonly [readonly NameRow[], string])[] = [
  [visionRows, "vision_model."],
  [adapterRows, ""],
  [decoderRows, "language_model.model."],
];
