/**
 * `train pipeline`: all stages of the progressive pipeline in their order, from a model that is
 * given, with everything in one folder that a later call goes on from.
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type PipelineOptions,
  runPipeline,
  type RunWorkers,
} from "@/training/pipeline/pipeline.ts";
import { type TrainingRecipe, withSteps } from "@/training/recipes/recipe.ts";
import { pipelineRuns } from "@/training/recipes/recipe_book.ts";
import { type Flags, parseFlags, UsageError } from "./flags.ts";
import { printLine } from "./terminal.ts";
import { trainToEnd } from "./train_run.ts";
import { mixSoup } from "./train_soup.ts";

export interface PipelineRequest extends Omit<PipelineOptions, "workers" | "onRun"> {
  /** Changes what a run starts from; nothing unless given. */
  readonly prepare?: RunWorkers["prepare"];
}

/** `train pipeline --model DIR --out DIR [--from STAGE] [--until STAGE] [--steps-share S]`. */
export async function trainPipeline(flags: Flags): Promise<number> {
  const [start] = flags.list("model");
  if (start === undefined) throw new UsageError("--model is missing: the model to start from");
  const last = await runStages(flags, {
    runs: pipelineRuns(),
    folder: resolve(flags.string("out") ?? join("runs", "pipeline")),
    start: resolve(start),
    from: flags.string("from"),
    until: flags.string("until"),
  });
  printLine(last === undefined ? "stopped: the same command goes on" : `done: ${last}`);
  return 0;
}

/** Runs stages; the last model, or undefined when it was told to stop. */
export async function runStages(
  flags: Flags,
  { prepare, ...request }: PipelineRequest,
): Promise<string | undefined> {
  const share = flags.number("steps-share") ?? 1;
  const shortened = (recipe: TrainingRecipe) =>
    share === 1 ? recipe : withSteps(recipe, Math.max(1, Math.round(recipe.steps * share)));
  return await runPipeline({
    ...request,
    workers: {
      prepare: prepare ?? (({ modelFolder }) => Promise.resolve(modelFolder)),
      mix: mixRuns,
      train: ({ recipe, modelFolder, folder }) =>
        trainToEnd(flags, { recipe: shortened(recipe), modelFolder, folder }),
    },
    onRun: ({ id, recipe }, number, count) =>
      printLine(`stage ${number} of ${count}: ${id}. ${recipe.purpose}`),
  });
}

/** Averages the members of a soup; a greedy one asks `train score` whom to keep. */
async function mixRuns(
  { recipe, members, folder }: Parameters<RunWorkers["mix"]>[0],
): Promise<string> {
  const out = join(folder, "model");
  await Deno.remove(out, { recursive: true }).catch(() => undefined);
  // A process of its own: the program that answers, beside the memory of the one that trains.
  const main = join(fileURLToPath(new URL("..", import.meta.url)), "main.ts");
  const evaluate = `${Deno.execPath()} run --allow-all ${main} train score --count 100`;
  const models = members.flatMap((member) => ["--model", member]);
  const greedy = recipe.method === "greedy" ? ["--evaluate", evaluate] : [];
  await mixSoup(parseFlags("train", ["soup", "--out", out, ...models, ...greedy]));
  return out;
}
