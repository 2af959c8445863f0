/**
 * What a training stage is, as validated data: what learns, from which mixture, at what rate, for how
 * long. One file per stage beside this one; `recipe_book.ts` has them in order.
 */
import { z } from "zod";
import { OperatingError } from "@/errors.ts";
import { taskNames } from "@/data/makers/maker_registry.ts";
import { checkSchedule } from "../control/rate_schedule.ts";
import { checkRewardWeights } from "../policy/rewards.ts";

const count = z.number().int().positive();
const share = z.number().min(0).max(1);

const schedule = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), warmupSteps: z.number().int().min(0) }),
  z.strictObject({
    kind: z.literal("cosine"),
    warmupSteps: z.number().int().min(0),
    totalSteps: count,
    endFactor: share.exactOptional(),
  }),
  z.strictObject({
    kind: z.literal("wsd"),
    warmupSteps: z.number().int().min(0),
    totalSteps: count,
    decaySteps: z.number().int().min(0),
    decayShape: z.enum(["linear", "sqrt"]).exactOptional(),
    endFactor: share.exactOptional(),
  }),
]);

const optimizer = z.strictObject({
  /** AdamW: rate at the peak of the schedule. */
  peakRate: z.number().positive(),
  /** Factors of the rate for parts that learn at another one. */
  partRates: z.partialRecord(z.enum(["vision", "adapter", "decoder"]), z.number().positive())
    .exactOptional(),
  weightDecay: z.number().min(0),
  betas: z.tuple([share, share]),
  clipNorm: z.number().positive(),
});

const packing = z.strictObject({
  tokensMax: count,
  visualTokensMax: count.exactOptional(),
  packsTogether: count,
  bufferSamples: count,
  roundsWaitedMax: z.number().int().min(0),
});

const data = z.strictObject({
  seed: z.number().int().min(0),
  /** Weights of the makers' tasks. */
  mixture: z.partialRecord(z.enum(taskNames as [string, ...string[]]), z.number().min(0)),
  /** Share of samples with a thought that are asked to think. */
  thinkingShare: share,
  /** Difficulty rises by accuracy, from the first level; absent: full difficulty. */
  curriculum: z.strictObject({ threshold: share, window: count }).exactOptional(),
});

const common = {
  name: z.string().regex(/^[a-z0-9_]+$/),
  /** What the stage is for, in a sentence. */
  purpose: z.string().min(10),
  trainable: z.array(z.enum(["vision", "adapter", "decoder"])).min(1),
  data,
  optimizer,
  schedule,
  steps: count,
};

const adaptiveRate = z.strictObject({
  windowSteps: z.number().int().min(3),
  up: z.number().min(1),
  down: z.number().min(1),
  shrink: share,
  /** Part of the steps in which the search runs. */
  searchFrom: share,
  searchTo: share,
});

const supervised = z.strictObject({
  kind: z.literal("supervised"),
  ...common,
  packing,
  lossReduction: z.enum(["token", "sample", "square"]),
  adaptiveRate: adaptiveRate.exactOptional(),
  /** Weight of the experts' load-balance loss; dense models ignore it. */
  balanceWeight: z.number().min(0),
});

const reinforcement = z.strictObject({
  kind: z.literal("reinforcement"),
  ...common,
  /** `auto`: DAPO for dense models, GSPO for sparse ones. */
  algorithm: z.enum(["auto", "dapo", "gspo"]),
  clip: z.strictObject({ low: z.number().positive(), high: z.number().positive() }),
  promptsPerStep: count,
  answersPerPrompt: z.number().int().min(2),
  updatesPerStep: count,
  temperature: z.number().positive(),
  answerTokensMax: count,
  overlongBufferTokens: count,
  /** Times that a step draws new prompts for groups that teach nothing. */
  resampleMax: z.number().int().min(0),
  /** Weights of the reward's parts; they sum to 1. */
  reward: z.strictObject({ accuracy: share, format: share, thought: share }),
  /** Tries per prompt of the difficulty filter before the stage; 0 = no filter. */
  difficultyTries: z.number().int().min(0),
});

const soup = z.strictObject({
  kind: z.literal("soup"),
  name: common.name,
  purpose: common.purpose,
  /** Runs of these stages, with these seeds, are averaged. */
  stage: z.string(),
  seeds: z.array(z.number().int().min(0)).min(2),
  method: z.enum(["uniform", "greedy"]),
});

export const recipeSchema = z.discriminatedUnion("kind", [supervised, reinforcement, soup]);

export type Recipe = z.infer<typeof recipeSchema>;
export type SupervisedRecipe = z.infer<typeof supervised>;
export type ReinforcementRecipe = z.infer<typeof reinforcement>;
export type SoupRecipe = z.infer<typeof soup>;

/** Reads a recipe; throws OperatingError that names the field. */
export function parseRecipe(value: unknown): Recipe {
  const result = recipeSchema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    const field = issue!.path.map(String).join(".") || "recipe";
    throw new OperatingError("invalid_request", `Cannot use recipe: ${field}: ${issue!.message}`, {
      field,
    });
  }
  const recipe = result.data;
  if (recipe.kind !== "soup") {
    checkSchedule(recipe.schedule);
    const total = Object.values(recipe.data.mixture).reduce((sum, weight) => sum! + weight!, 0)!;
    if (total <= 0) throw new OperatingError("invalid_request", "Cannot use recipe: empty mixture");
  }
  if (recipe.kind === "reinforcement") checkRewardWeights(recipe.reward);
  return recipe;
}
