/**
 * SFT 2: the curated instruction set.
 * The report: SAIL-Instruction2, 20 M samples, 40 B tokens, length 8192.
 */
import {
  CHART_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
  REASONING_TASKS,
  SCENE_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const sftInstruction = supervisedRecipe({
  name: "sft_instruction",
  purpose: "Instruction tuning on the balanced set of all tasks",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 32,
    mixture: {
      ...READING_TASKS,
      ...SCENE_TASKS,
      ...CHART_TASKS,
      ...REASONING_TASKS,
      caption_question: 4,
      talk: 0.5,
    },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 3e-4 },
  schedule: { kind: "cosine", warmupSteps: 50, endFactor: 0.1 },
  steps: 2500,
  packing: EDGE_PACKING,
});
