/**
 * SFT 3: the hard questions.
 * The report: LLaVA-CoT, MMPR, Condor; 16 B tokens, length 8192.
 */
import { CHART_TASKS, EDGE_OPTIMIZER, EDGE_PACKING, REASONING_TASKS } from "./edge_defaults.ts";
import { supervisedRecipe } from "./recipe.ts";

export const sftHard = supervisedRecipe({
  name: "sft_hard",
  purpose: "More of what is still wrong: charts, strings, two lines, arithmetic",
  trainable: ["vision", "adapter", "decoder"],
  data: {
    seed: 33,
    mixture: {
      ...CHART_TASKS,
      string: 3,
      two_lines: 3,
      handwriting: 2,
      ...REASONING_TASKS,
      relation: 1,
    },
  },
  optimizer: { ...EDGE_OPTIMIZER, peakRate: 2e-4 },
  schedule: { kind: "cosine", warmupSteps: 50, endFactor: 0.1 },
  steps: 2000,
  packing: EDGE_PACKING,
});
