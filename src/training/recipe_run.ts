/** Runs a recipe: loads the model, opens the kind of training that it names, and goes to its end. */
import type { Clock } from "@/clock.ts";
import type { Backend } from "@/kernels/backend.ts";
import type { TrainingRecipe } from "./recipes/recipe.ts";
import { ruleJudge, type ThoughtJudge } from "./policy/thought_judge.ts";
import { openReinforcement } from "./reinforcement_run.ts";
import type { DifficultyState } from "./rollouts/difficulty_filter.ts";
import type { ResumedRun } from "./run_checkpoint.ts";
import type { StepRecord } from "./run_log.ts";
import { openSetting, type RunSetting } from "./run_setting.ts";
import { SupervisedRun } from "./supervised_run.ts";
import { type RunDriver, type RunEnd, trainRun } from "./training_run.ts";

export interface RecipeRunOptions {
  readonly recipe: TrainingRecipe;
  /** Model that the run starts from. */
  readonly modelFolder: string;
  /** Where log and checkpoints go. */
  readonly folder: string;
  readonly backend: Backend;
  readonly clock: Clock;
  readonly onStep?: (record: StepRecord) => void;
  readonly onCheckpoint?: (folder: string) => Promise<void> | void;
  readonly isStopping?: () => boolean;
  /** Judges thoughts where reinforcement rewards them; default: by rules. */
  readonly thoughts?: ThoughtJudge;
  /** Progress of reinforcement's difficulty filter. */
  readonly onDifficulty?: (state: DifficultyState, examinedMax: number) => void;
}

/** Runs a recipe, from its newest checkpoint if there is one. */
export async function runRecipe(options: RecipeRunOptions): Promise<RunEnd> {
  const { recipe, backend, thoughts: _, onDifficulty: __, ...run } = options;
  const setting = await openSetting(options);
  try {
    return await trainRun({
      ...run,
      parts: setting.parts,
      openDriver: (resumed) => openDriver(setting, options, resumed),
      steps: recipe.steps,
      checkpoints: recipe.checkpoints,
    });
  } finally {
    setting.trainer.close();
    setting.model.set.close(backend);
  }
}

async function openDriver(
  setting: RunSetting,
  options: RecipeRunOptions,
  resumed: ResumedRun | undefined,
): Promise<RunDriver> {
  const { recipe, thoughts = ruleJudge } = options;
  switch (recipe.kind) {
    case "supervised":
      return await SupervisedRun.open(setting, recipe, resumed);
    case "reinforcement":
      return await openReinforcement(setting, { ...options, recipe, thoughts, resumed });
  }
}
