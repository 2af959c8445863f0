/**
 * ViT stage I: the adapter learns to speak to the decoder.
 * The report: 8 M samples, rate 2e-4, batch 1920, length 8192, adapter only.
 */
import { CAPTION_TASKS, EDGE_OPTIMIZER, EDGE_PACKING } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const vitWarmup = supervisedRecipe({
  name: "vit_warmup",
  purpose: "Aligns a new adapter with a frozen vision tower and decoder",
  trainable: ["adapter"],
  data: {
    seed: 11,
    mixture: CAPTION_TASKS,
    curriculum: { threshold: 0.8, window: 256 },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 1e-3 },
  schedule: { kind: "wsd", warmupSteps: 100, decaySteps: 0 },
  steps: 600,
  packing: EDGE_PACKING,
});
