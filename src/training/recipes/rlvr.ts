/**
 * RLVR: reinforcement with answers that a rule can check, and the format.
 * The report: 70 K prompts, rate 1e-6, 2048 rollouts, mini-batches of 512, 8 updates, clip 0.20/0.28.
 */
import { EDGE_OPTIMIZER, REASONING_TASKS } from "./edge_defaults.ts";
import { reinforcementRecipe } from "./recipe.ts";

export const rlvr = reinforcementRecipe({
  name: "rlvr",
  purpose: "Raises verified accuracy of the thinking mode",
  trainable: ["vision", "adapter", "decoder"],
  data: { seed: 42, mixture: { ...REASONING_TASKS, count: 1 }, thinkingShare: 1 },
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
  reward: { accuracy: 0.9, format: 0.1, thought: 0 },
  difficultyTries: 4,
});
