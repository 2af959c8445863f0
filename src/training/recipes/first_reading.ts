/**
 * Before the report's stages: tower and decoder from nothing. The report starts from a vision tower
 * (AIMv2) and a decoder (Qwen3) that others trained; a model that is made here has neither, and a
 * frozen random tower teaches an adapter nothing. So everything learns, from letters on, with cues.
 *
 * Rate 1e-3 and 64 samples a step are what a tower of this size learned to read with; a rate of the
 * later stages never started to read.
 */
import {
  CAPTION_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
  SCENE_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const firstReading = supervisedRecipe({
  name: "first_reading",
  purpose: "Gives a random tower its sight and a random decoder its first words",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 1,
    mixture: { ...CAPTION_TASKS, ...READING_TASKS, ...SCENE_TASKS, text_sum: 2 },
    curriculum: { threshold: 0.6, window: 256 },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 1e-3 },
  schedule: { kind: "wsd", warmupSteps: 300, decaySteps: 0 },
  steps: 8000,
  packing: EDGE_PACKING,
  cueWeight: 1,
  tokenCueWeight: 0.5,
});
