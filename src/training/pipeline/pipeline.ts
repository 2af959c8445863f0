/**
 * The progressive pipeline: runs of stages one after the other, each on what the one before it left.
 * State is a folder per run; a run is done when its `result.json` is there, which comes last and
 * whole. So a pipeline that was killed at any moment goes on where it was: a stage from its newest
 * checkpoint, a soup from its beginning.
 */
import { join } from "node:path";
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import type { PipelineRun } from "../recipes/recipe_book.ts";
import type { SoupRecipe, TrainingRecipe } from "../recipes/recipe.ts";

/** How single runs are done; each returns the model folder that it left. */
export interface RunWorkers {
  /** Undefined when it was stopped before its last step. */
  train(
    run: { id: string; recipe: TrainingRecipe; modelFolder: string; folder: string },
  ): Promise<string | undefined>;
  mix(run: { recipe: SoupRecipe; members: readonly string[]; folder: string }): Promise<string>;
  /** What a run starts from, made of what the run before it left; the same folder for no change. */
  prepare(run: { id: string; modelFolder: string; folder: string }): Promise<string>;
}

export interface PipelineOptions {
  readonly runs: readonly PipelineRun[];
  readonly folder: string;
  /** The model that the first run starts from. */
  readonly start: string;
  /** Id of the first run that is done here. */
  readonly from?: string | undefined;
  /** Runs before `from`: what they left in the folder is built on; else `start` stands for them. */
  readonly buildsOnEarlier?: boolean | undefined;
  /** Id of the last run. */
  readonly until?: string | undefined;
  readonly workers: RunWorkers;
  /** Told before each run. */
  readonly onRun?: (run: PipelineRun, number: number, count: number) => void;
}

/** What a finished run leaves beside its model. */
interface RunResult {
  /** Folder of the model, beside this file. */
  readonly model: string;
}

const RESULT = "result.json";

/** Runs what is not done yet; returns the last model, or undefined when a run was stopped. */
export async function runPipeline(options: PipelineOptions): Promise<string | undefined> {
  const { folder, workers, onRun } = options;
  const runs = chosenRuns(options);
  const models = new Map<string, string>();
  const modelOf = (id: string) => models.get(id) ?? options.start;
  if (options.buildsOnEarlier) await readEarlier(options, models);
  for (const [i, run] of runs.entries()) {
    const { id, recipe, needs } = run;
    const own = join(folder, id);
    const done = await readResult(own);
    if (done !== undefined) {
      models.set(id, done);
      continue;
    }
    onRun?.(run, i + 1, runs.length);
    await Deno.mkdir(own, { recursive: true });
    let model: string | undefined;
    if (recipe.kind === "soup") {
      const members = needs.map(modelOf);
      model = await workers.mix({ recipe, members, folder: own });
    } else {
      const before = needs.at(-1);
      const last = before === undefined ? options.start : modelOf(before);
      const modelFolder = await workers.prepare({ id, modelFolder: last, folder: own });
      model = await workers.train({ id, recipe, modelFolder, folder: own });
    }
    if (model === undefined) return undefined;
    await writeResult(own, model);
    models.set(id, model);
  }
  return modelOf(runs.at(-1)!.id);
}

/** Models of finished runs; throws OperatingError when the first run needs one that is not there. */
async function readEarlier(
  options: PipelineOptions,
  models: Map<string, string>,
): Promise<void> {
  for (const { id } of options.runs) {
    const model = await readResult(join(options.folder, id));
    if (model !== undefined) models.set(id, model);
  }
  const [first] = chosenRuns(options);
  const missing = first!.needs.find((id) => !models.has(id));
  if (missing === undefined) return;
  const message = `Cannot begin with ${first!.id}: ${options.folder} has no finished ${missing}`;
  throw new OperatingError("invalid_request", message);
}

/** Throws OperatingError for ids that no run has. */
function chosenRuns({ runs, from, until }: PipelineOptions): readonly PipelineRun[] {
  const placeOf = (id: string) => {
    const at = runs.findIndex((run) => run.id === id);
    if (at >= 0) return at;
    const ids = runs.map((run) => run.id).join(", ");
    throw new OperatingError("invalid_request", `Unknown stage "${id}", expected one of ${ids}`);
  };
  const first = from === undefined ? 0 : placeOf(from);
  const last = until === undefined ? runs.length - 1 : placeOf(until);
  if (last < first) {
    throw new OperatingError("invalid_request", `Stage ${until} comes before stage ${from}`);
  }
  return runs.slice(first, last + 1);
}

async function readResult(folder: string): Promise<string | undefined> {
  try {
    const { model } = JSON.parse(await Deno.readTextFile(join(folder, RESULT))) as RunResult;
    return join(folder, model);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function writeResult(folder: string, model: string): Promise<void> {
  assert(model.startsWith(folder), `the model of ${folder} lies in it`);
  const result: RunResult = { model: model.slice(folder.length + 1) };
  const partial = join(folder, `${RESULT}.partial`);
  await Deno.writeTextFile(partial, JSON.stringify(result) + "\n");
  await Deno.rename(partial, join(folder, RESULT));
}
