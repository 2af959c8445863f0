/**
 * LongCoT SFT: thoughts in tags, answers in boxes, loss on both.
 * The report: 400 K samples, peak 1e-6 cosine, batch 1024, length 20480, one epoch.
 */
import { EDGE_OPTIMIZER, EDGE_PACKING, REASONING_TASKS } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const longCot = supervisedRecipe({
  name: "long_cot",
  purpose: "Teaches the thinking mode on verified chains",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 41,
    mixture: { ...REASONING_TASKS, bar_reading: 2, text_bars: 2, word: 0.5, count: 0.5 },
    thinkingShare: 1,
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 2e-4 },
  schedule: { kind: "cosine", warmupSteps: 30 },
  steps: 1000,
  packing: EDGE_PACKING,
});
