/**
 * Mixed-reward RL: answer, thought (by a judge) and format; weights sum to 1.
 * The report: 100 K prompts, half hard STEM, half general; all rewards binary.
 */
import { EDGE_OPTIMIZER, REASONING_TASKS } from "./edge_defaults.ts";
import { reinforcementRecipe } from "./recipe.ts";

export const mixedReward = reinforcementRecipe({
  name: "mixed_reward",
  purpose: "Rewards sound thoughts beside right answers",
  trainable: ["vision", "adapter", "decoder"],
  data: { seed: 44, mixture: { ...REASONING_TASKS, count: 1, bar_reading: 1 }, thinkingShare: 1 },
  optimizer: { ...EDGE_OPTIMIZER, weightDecay: 0, peakRate: 3e-5 },
  schedule: { kind: "constant", warmupSteps: 10 },
  steps: 300,
  algorithm: "auto",
  clip: { low: 0.2, high: 0.28 },
  promptsPerStep: 32,
  answersPerPrompt: 8,
  updatesPerStep: 2,
  temperature: 1,
  answerTokensMax: 96,
  overlongBufferTokens: 24,
  resampleMax: 3,
  reward: { accuracy: 0.6, format: 0.1, thought: 0.3 },
  difficultyTries: 0,
});
