/**
 * SFT 1: basic instructions and world knowledge.
 * The report: Infinity-MM stage 2, 42 B tokens, length 8192.
 */
import { EDGE_OPTIMIZER, EDGE_PACKING, READING_TASKS, SCENE_TASKS } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const sftBasic = supervisedRecipe({
  name: "sft_basic",
  purpose: "Instruction tuning on simple questions of every kind",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 31,
    mixture: { ...READING_TASKS, ...SCENE_TASKS, talk: 1, caption_question: 4 },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 4e-4 },
  schedule: { kind: "cosine", warmupSteps: 100, endFactor: 0.1 },
  steps: 2500,
  packing: EDGE_PACKING,
});
