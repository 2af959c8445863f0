/**
 * After sparse upcycling: the copies become different experts, and the router loads them evenly.
 * Only the decoder learns; what the dense model saw stays as it was.
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

export const sparseBalance = supervisedRecipe({
  name: "sparse_balance",
  purpose: "Tells the experts of an upcycled model apart and loads them evenly",
  trainable: ["decoder"],
  data: {
    seed: 61,
    mixture: {
      ...READING_TASKS,
      ...SCENE_TASKS,
      ...CHART_TASKS,
      ...REASONING_TASKS,
      scene_dialogue: 4,
      chart_dialogue: 2,
      text_sum: 3,
      talk: 0.3,
    },
    thinkingShare: 0.5,
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 4e-4 },
  schedule: { kind: "cosine", warmupSteps: 20, endFactor: 0.1 },
  steps: 600,
  packing: EDGE_PACKING,
  lossReduction: "square",
  // Ten times the usual: a short run has to even out a random router.
  balanceWeight: 1e-2,
});
