/**
 * A supervised stage in the form that the runner takes (`run_recipe.ts`), and what of the stage that
 * form cannot say.
 */
import { OperatingError } from "@/errors.ts";
import type { RunRecipe } from "../run_recipe.ts";
import type { Recipe } from "./recipe.ts";

export interface RunForm {
  readonly recipe: Partial<RunRecipe>;
  /** Parts of the stage that the runner does not have, in words. */
  readonly omitted: readonly string[];
}

/** Throws OperatingError for stages that are no supervised training. */
export function runFormOf(recipe: Recipe, model: string): RunForm {
  if (recipe.kind !== "supervised") {
    throw new OperatingError(
      "invalid_request",
      `Cannot run ${recipe.name} as one training run: it is of kind ${recipe.kind}`,
    );
  }
  const { data, optimizer, schedule, packing, adaptiveRate } = recipe;
  const omitted: string[] = [];
  if (data.curriculum) omitted.push("curriculum: full difficulty from the start");
  if (adaptiveRate) omitted.push("AdaLRS: the rate stays what it is");
  if (schedule.kind !== "cosine") omitted.push(`${schedule.kind} schedule: a cosine instead`);
  if (data.thinkingShare > 0 && data.thinkingShare < 1) {
    omitted.push(`thinkingShare ${data.thinkingShare}: no sample thinks`);
  }
  if (recipe.lossReduction !== "token") omitted.push(`${recipe.lossReduction} mean: by token`);
  return {
    omitted,
    recipe: {
      model,
      seed: data.seed,
      steps: recipe.steps,
      learns: [...recipe.trainable],
      data: {
        sources: Object.entries(data.mixture)
          .filter(([, weight]) => weight! > 0)
          .map(([maker, weight]) => ({ maker, weight: weight! })),
        batchTokens: packing.tokensMax,
        microBatches: packing.packsTogether,
        thinking: data.thinkingShare === 1,
      },
      optimizer: {
        rate: optimizer.peakRate,
        factors: optimizer.partRates ?? {},
        warmupSteps: schedule.warmupSteps,
        endFactor: schedule.kind === "cosine" ? schedule.endFactor ?? 0 : 0.1,
        decay: optimizer.weightDecay,
        beta1: optimizer.betas[0],
        beta2: optimizer.betas[1],
        epsilon: 1e-8,
        normMax: optimizer.clipNorm,
      },
      router: { balance: recipe.balanceWeight, z: 0 },
    },
  };
}
