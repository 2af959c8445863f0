/**
 * ViT stage III: all parts learn from everything.
 * The report: 36.5 M mixed samples, rate 1e-5, batch 512; its result is SAIL-ViT.
 */
import {
  CAPTION_TASKS,
  CHART_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
  REASONING_TASKS,
  SCENE_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const worldKnowledge = supervisedRecipe({
  name: "world_knowledge",
  purpose: "Makes the whole model answer all kinds of questions",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 13,
    mixture: {
      ...CAPTION_TASKS,
      ...READING_TASKS,
      ...SCENE_TASKS,
      ...CHART_TASKS,
      ...REASONING_TASKS,
      talk: 0.3,
    },
    curriculum: { threshold: 0.8, window: 256 },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 1e-3 },
  schedule: { kind: "wsd", warmupSteps: 200, decaySteps: 1200 },
  steps: 6000,
  packing: EDGE_PACKING,
  // A tower of this size never began to read small type from answers alone.
  cueWeight: 0.5,
  tokenCueWeight: 0.5,
});
