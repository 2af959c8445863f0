/** The shipped recipes in the order of the progressive pipeline, and where each starts from. */
import { OperatingError } from "@/errors.ts";
import { basicPretraining } from "./basic_pretraining.ts";
import { fineGrained } from "./fine_grained.ts";
import { firstReading } from "./first_reading.ts";
import { longCot } from "./long_cot.ts";
import { mixedReward } from "./mixed_reward.ts";
import { modelSoup } from "./model_soup.ts";
import { multiTask } from "./multi_task.ts";
import type { Recipe } from "./recipe.ts";
import { rlvr } from "./rlvr.ts";
import { sftBasic } from "./sft_basic.ts";
import { sftHard } from "./sft_hard.ts";
import { sftInstruction } from "./sft_instruction.ts";
import { sftVideo } from "./sft_video.ts";
import { sparseBalance } from "./sparse_balance.ts";
import { thinkFusion } from "./think_fusion.ts";
import { vitWarmup } from "./vit_warmup.ts";
import { worldKnowledge } from "./world_knowledge.ts";

/** Each stage starts from the weights of the one before it. */
export const recipeBook: readonly Recipe[] = [
  vitWarmup,
  fineGrained,
  worldKnowledge,
  basicPretraining,
  multiTask,
  sftBasic,
  sftInstruction,
  sftHard,
  sftVideo,
  modelSoup,
  longCot,
  rlvr,
  thinkFusion,
  mixedReward,
];

/** The same for a model that is made of nothing: sight and first words come before. */
export const nothingBook: readonly Recipe[] = [firstReading, ...recipeBook];

/** What follows when experts were made of a dense model. */
export const sparseBook: readonly Recipe[] = [sparseBalance];

/** All that have a name: the pipeline's, then what comes before and after it in special cases. */
export const allRecipes: readonly Recipe[] = [...recipeBook, firstReading, ...sparseBook];

/** A shipped recipe by name; throws OperatingError listing all names. */
export function shippedRecipe(name: string): Recipe {
  const recipe = allRecipes.find((recipe) => recipe.name === name);
  if (recipe) return recipe;
  const names = allRecipes.map(({ name }) => name).join(", ");
  throw new OperatingError("invalid_request", `Unknown recipe "${name}", expected one of ${names}`);
}

/** One run of the pipeline: a recipe, perhaps with another seed, and the runs it needs. */
export interface PipelineRun {
  readonly id: string;
  readonly recipe: Recipe;
  /** Ids of runs that must be finished first; the last one's weights are the start. */
  readonly needs: readonly string[];
}

/** All runs in an order that respects their needs: a soup's stage runs once per seed. */
export function pipelineRuns(book: readonly Recipe[] = recipeBook): PipelineRun[] {
  const runs: PipelineRun[] = [];
  let last: string[] = [];
  for (const recipe of book) {
    if (recipe.kind === "soup") {
      const stage = book.find(({ name }) => name === recipe.stage)!;
      const first = runs.find(({ id }) => id === recipe.stage)!;
      if (stage.kind === "soup") throw new Error(`${recipe.name} needs a stage that trains`);
      const members = recipe.seeds.map((seed) => {
        if (seed === stage.data.seed) return first.id;
        const id = `${stage.name}_${seed}`;
        const again = { ...stage, data: { ...stage.data, seed } };
        runs.push({ id, recipe: again, needs: first.needs });
        return id;
      });
      runs.push({ id: recipe.name, recipe, needs: members });
    } else {
      runs.push({ id: recipe.name, recipe, needs: last });
    }
    last = [recipe.name];
  }
  return runs;
}

/** The next run whose needs are met; undefined when all are done. */
export function nextRun(
  runs: readonly PipelineRun[],
  done: ReadonlySet<string>,
): PipelineRun | undefined {
  return runs.find(({ id, needs }) => !done.has(id) && needs.every((need) => done.has(need)));
}
