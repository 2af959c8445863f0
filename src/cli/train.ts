/** `train`: a recipe becomes a model, with a log and checkpoints that a later call goes on from. */
import { join, resolve } from "node:path";
import { type TrainingRecipe, withSeed, withSteps } from "@/training/recipes/recipe.ts";
import { openRecipe } from "@/training/recipes/recipe_file.ts";
import { checkpointSteps } from "@/training/run_checkpoint.ts";
import { type Flags, UsageError } from "./flags.ts";
import { trainActions } from "./train_data.ts";
import { trainPipeline } from "./train_pipeline.ts";
import { trainToEnd } from "./train_run.ts";
import { mixSoup } from "./train_soup.ts";

export async function train(flags: Flags): Promise<number> {
  const [what, unexpected] = flags.positionals;
  const others = [...Object.keys(trainActions), "pipeline"].join(", ");
  if (what === undefined) {
    throw new UsageError(`Say which recipe: RECIPE.json, a shipped one, or one of ${others}`);
  }
  if (Object.hasOwn(trainActions, what)) {
    return await trainActions[what]!(flags, flags.positionals.slice(1));
  }
  if (what === "pipeline") return await trainPipeline(flags);
  if (unexpected !== undefined) throw new UsageError(`Unexpected argument "${unexpected}"`);
  const recipe = await openRecipe(what);
  if (recipe.kind === "soup") {
    if (recipe.method === "greedy" && flags.string("evaluate") === undefined) {
      throw new UsageError(`--evaluate is missing, ${recipe.name} chooses its members by a score`);
    }
    return await mixSoup(flags);
  }
  return await runTraining(flags, changed(recipe, flags));
}

/** The recipe with what the flags say instead. */
function changed(recipe: TrainingRecipe, flags: Flags): TrainingRecipe {
  const [steps, seed] = [flags.number("steps"), flags.number("seed")];
  const seeded = seed === undefined ? recipe : withSeed(recipe, seed);
  return steps === undefined ? seeded : withSteps(seeded, steps);
}

async function runTraining(flags: Flags, recipe: TrainingRecipe): Promise<number> {
  const [modelFolder, second] = flags.list("model");
  if (modelFolder === undefined) {
    throw new UsageError("--model is missing, expected the model to start from");
  }
  if (second !== undefined) throw new UsageError("--model is given twice, a run starts from one");
  const folder = resolve(flags.string("out") ?? join("runs", recipe.name));
  const steps = await checkpointSteps(folder);
  if (steps.length > 0 && !flags.on("resume")) {
    throw new UsageError(`${folder} holds a run: go on with --resume, or name another --out`);
  }
  await trainToEnd(flags, { recipe, modelFolder: resolve(modelFolder), folder });
  return 0;
}
