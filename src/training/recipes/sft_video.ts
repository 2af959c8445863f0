/**
 * SFT 4: pictures and clips in equal parts, longer packs.
 * The report: images and SAIL-Video 1:1, 70 B tokens, length 16384.
 */
import { EDGE_OPTIMIZER, EDGE_PACKING } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const sftVideo = supervisedRecipe({
  name: "sft_video",
  purpose: "Adds short clips beside pictures",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 34,
    mixture: {
      word: 3,
      number: 2,
      count: 2,
      bar_reading: 1,
      arithmetic: 1,
      direction: 2,
      recolouring: 2,
      number_frames: 3,
      growth: 2,
    },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 2e-4 },
  schedule: { kind: "cosine", warmupSteps: 50, endFactor: 0.1 },
  steps: 2000,
  packing: { ...EDGE_PACKING, tokensMax: 2048 },
});
