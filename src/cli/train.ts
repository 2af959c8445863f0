/** `train`: a recipe becomes a model, with a log and checkpoints that a later call goes on from. */
import { basename, dirname, join, resolve } from "node:path";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { openBackend } from "@/kernels/open.ts";
import { checkpointFolder, checkpointSteps } from "@/training/run_checkpoint.ts";
import { runRecipe } from "@/training/recipe_run.ts";
import { parseRecipe } from "@/training/run_recipe.ts";
import type { StepRecord } from "@/training/training_run.ts";
import { backendFlags } from "./backend_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { printLine } from "./terminal.ts";
import { trainActions } from "./train_data.ts";

export async function train(flags: Flags): Promise<number> {
  const [path, unexpected] = flags.positionals;
  const others = Object.keys(trainActions).join(", ");
  if (path === undefined) {
    throw new UsageError(`Say which recipe: RECIPE.json, or one of ${others}`);
  }
  if (Object.hasOwn(trainActions, path)) {
    return await trainActions[path]!(flags, flags.positionals.slice(1));
  }
  return await runFromFile(flags, path, unexpected);
}

async function runFromFile(
  flags: Flags,
  path: string,
  unexpected: string | undefined,
): Promise<number> {
  if (unexpected !== undefined) throw new UsageError(`Unexpected argument "${unexpected}"`);
  const recipe = parseRecipe(await readRecipe(path), path);
  const folder = resolve(flags.string("out") ?? join("runs", basename(path, ".json")));
  const steps = await checkpointSteps(folder);
  if (steps.length > 0 && !flags.on("resume")) {
    throw new UsageError(`${folder} holds a run: go on with --resume, or name another --out`);
  }
  const backend = await openBackend({ ...backendFlags(flags), training: true });
  const stop = new StopRequest();
  try {
    const done = await runRecipe({
      recipe,
      base: dirname(resolve(path)),
      folder,
      backend,
      clock: systemClock,
      onStep: (record) => printLine(stepLine(record, recipe.steps)),
      isStopping: () => stop.isRequested,
    });
    const end = done < recipe.steps ? `stopped after ${done} of ${recipe.steps} steps` : "done";
    printLine(`${end}: ${checkpointFolder(folder, done)}`);
    return 0;
  } finally {
    stop.close();
    await backend.close();
  }
}

async function readRecipe(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    throw new OperatingError("invalid_request", `Cannot read the recipe ${path}`, { cause });
  }
}

function stepLine(record: StepRecord, steps: number): string {
  const { step, loss, rate, gradientNorm, rowsPerSecond, secondsLeft } = record;
  return `step ${step}/${steps}  loss ${loss.toFixed(4)}  norm ${gradientNorm.toFixed(2)}  ` +
    `rate ${rate.toExponential(2)}  ${Math.round(rowsPerSecond)} tokens/s  ` +
    `${timeText(secondsLeft)} left`;
}

function timeText(seconds: number): string {
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 2) return `${Math.ceil(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** SIGTERM and SIGINT ask the run to save and end. */
class StopRequest {
  isRequested = false;
  readonly #signals: readonly Deno.Signal[] = ["SIGTERM", "SIGINT"];
  readonly #ask = () => {
    this.isRequested = true;
  };

  constructor() {
    for (const signal of this.#signals) Deno.addSignalListener(signal, this.#ask);
  }

  close(): void {
    for (const signal of this.#signals) Deno.removeSignalListener(signal, this.#ask);
  }
}
