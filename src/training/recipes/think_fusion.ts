/**
 * Think-fusion SFT: nine direct answers to one thought, so that one model does both.
 * The report: 900 K direct and 100 K thinking samples; loss on thought and answer, or answer.
 */
import {
  CHART_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
  SCENE_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const thinkFusion = supervisedRecipe({
  name: "think_fusion",
  purpose: "Fuses direct answers and thinking in one model",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 43,
    mixture: {
      ...READING_TASKS,
      ...SCENE_TASKS,
      ...CHART_TASKS,
      arithmetic: 12,
      word_problem: 4,
      talk: 0.3,
    },
    thinkingShare: 0.25,
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 1e-4 },
  schedule: { kind: "cosine", warmupSteps: 30 },
  steps: 1500,
  packing: EDGE_PACKING,
});
