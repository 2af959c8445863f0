/**
 * Multi-task pre-training: understanding and instructions in equal parts, everything learns.
 * The report: 180 M samples, all parts, no AdaLRS (the loss says little about quality here).
 */
import {
  CAPTION_TASKS,
  CHART_TASKS,
  CLIP_TASKS,
  EDGE_OPTIMIZER,
  EDGE_PACKING,
  READING_TASKS,
  REASONING_TASKS,
  SCENE_TASKS,
} from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const multiTask = supervisedRecipe({
  name: "multi_task",
  purpose: "Teaches all tasks together, half of them as instructions",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 22,
    mixture: {
      ...CAPTION_TASKS,
      ...READING_TASKS,
      ...SCENE_TASKS,
      ...CHART_TASKS,
      ...CLIP_TASKS,
      caption_question: 10,
      ...REASONING_TASKS,
    },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 8e-4 },
  schedule: { kind: "cosine", warmupSteps: 200, endFactor: 0.1 },
  steps: 8000,
  packing: EDGE_PACKING,
});
