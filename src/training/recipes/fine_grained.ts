/**
 * ViT stage II: tower and adapter learn detail; the decoder stays.
 * The report: 6.7 M captions, OCR and clips more, rate 2e-5, batch 512, decoder frozen.
 */
import {
  CAPTION_TASKS,
  CLIP_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const fineGrained = supervisedRecipe({
  name: "fine_grained",
  purpose: "Teaches the vision tower letters, digits and small figures",
  trainable: ["vision", "adapter"],
  data: {
    seed: 12,
    mixture: { ...CAPTION_TASKS, ...READING_TASKS, ...CLIP_TASKS },
    curriculum: { threshold: 0.8, window: 256 },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 1e-3 },
  schedule: { kind: "wsd", warmupSteps: 300, decaySteps: 600 },
  steps: 6000,
  packing: EDGE_PACKING,
  // A tower of this size never began to read small type from answers alone.
  cueWeight: 0.5,
  tokenCueWeight: 0.5,
});
