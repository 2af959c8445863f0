/**
 * Basic multimodal pre-training: a fresh adapter, the rate found by AdaLRS.
 * The report: 64 M samples, batch 2048, rate 2e-4 that AdaLRS raised to 6.75e-4.
 */
import { CAPTION_TASKS, CHART_TASKS, EDGE_OPTIMIZER, EDGE_PACKING } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const basicPretraining = supervisedRecipe({
  name: "basic_pretraining",
  purpose: "Fits a random adapter between the trained tower and the decoder",
  trainable: ["adapter"],
  data: {
    seed: 21,
    mixture: { ...CAPTION_TASKS, ...CHART_TASKS },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 2e-4 },
  schedule: { kind: "constant", warmupSteps: 50 },
  steps: 1500,
  packing: EDGE_PACKING,
  adaptiveRate: { windowSteps: 50, up: 3, down: 2, shrink: 0.99, searchFrom: 0.1, searchTo: 0.4 },
});
