/** Outsiders' spelling stops at the border: only these files know how checkpoints name things. */
import assert from "node:assert/strict";
import { isTest, readText, typescriptFiles } from "./source_files.ts";

const owners = new Set([
  "src/model/config.ts",
  "src/model/config_writer.ts",
  "src/weights/names.ts",
]);

/** Configuration keys and tensor names as Hugging Face checkpoints spell them. */
const checkpointWords = [
  "decoder_sparse_step",
  "down_proj",
  "embed_tokens",
  "gate_proj",
  "head_dim",
  "hidden_size",
  "input_layernorm",
  "intermediate_size",
  "k_proj",
  "llm_config",
  "lm_head",
  "mlp_only_layers",
  "moe_intermediate_size",
  "norm_topk_prob",
  "num_attention_heads",
  "num_experts",
  "num_experts_per_tok",
  "num_hidden_layers",
  "num_key_value_heads",
  "o_proj",
  "post_attention_layernorm",
  "post_trunk_norm",
  "q_proj",
  "rms_norm_eps",
  "rope_theta",
  "tie_word_embeddings",
  "up_proj",
  "v_proj",
  "vision_config",
];

const pattern = new RegExp(`\\b(${checkpointWords.join("|")})\\b`, "g");

Deno.test("only the border files know checkpoint spelling", () => {
  const bad = typescriptFiles("src")
    .filter((path) => !owners.has(path) && !isTest(path))
    .flatMap((path) => {
      const words = new Set(readText(path).match(pattern) ?? []);
      return words.size > 0 ? [`${path}: ${[...words].join(", ")}`] : [];
    });
  assert.deepEqual(bad, [], `translate in ${[...owners].join(" or ")}`);
});
