/** `train`: a recipe becomes a model, with a log and checkpoints that a later call goes on from. */
import { basename, join, resolve } from "node:path";
import { systemClock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import { runRecipe } from "@/training/recipe_run.ts";
import { type TrainingRecipe, withSeed, withSteps } from "@/training/recipes/recipe.ts";
import { openRecipe } from "@/training/recipes/recipe_file.ts";
import { checkpointSteps } from "@/training/run_checkpoint.ts";
import { REPORT_FILE, RunReport } from "@/training/report/run_report.ts";
import { readLog, type StepRecord } from "@/training/run_log.ts";
import { backendFlags } from "./backend_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";
import { trainActions } from "./train_data.ts";
import { judgeFlags } from "./train_judge.ts";
import { servePage } from "./train_page.ts";
import { mixSoup } from "./train_soup.ts";

export async function train(flags: Flags): Promise<number> {
  const [what, unexpected] = flags.positionals;
  const others = Object.keys(trainActions).join(", ");
  if (what === undefined) {
    throw new UsageError(`Say which recipe: RECIPE.json, a shipped one, or one of ${others}`);
  }
  if (Object.hasOwn(trainActions, what)) {
    return await trainActions[what]!(flags, flags.positionals.slice(1));
  }
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
  const report = new RunReport({
    recipe,
    model: basename(resolve(modelFolder)),
    records: (await readLog(folder)).filter(({ computed }) => computed <= (steps.at(-1) ?? 0)),
  });
  const address = flags.string("page");
  const page = address === undefined ? undefined : servePage(report, address);
  if (page) printLine(`watch: ${page.url}`);
  const thoughts = await judgeFlags(flags);
  const filtering = new ProgressLine("choosing questions", systemClock);
  const backend = await openBackend({ ...backendFlags(flags), training: true });
  const stop = new StopRequest();
  try {
    const { stepsDone, checkpoint } = await runRecipe({
      recipe,
      modelFolder: resolve(modelFolder),
      folder,
      backend,
      clock: systemClock,
      ...thoughts && { thoughts },
      onDifficulty: ({ examined }, examinedMax) => filtering.update(examined, examinedMax),
      onStep(record) {
        report.add(record);
        printStep(record, recipe);
      },
      onCheckpoint: () => report.write(folder),
      isStopping: () => stop.isRequested,
    });
    const isDone = stepsDone >= recipe.steps;
    report.state = isDone ? "done" : "stopped";
    await report.write(folder);
    const end = isDone ? "done" : `stopped after ${stepsDone} of ${recipe.steps} steps`;
    printLine(`${end}: ${checkpoint ?? "nothing to save"}`);
    printLine(`report: ${join(folder, REPORT_FILE)}`);
    return 0;
  } finally {
    stop.close();
    await page?.close();
    await backend.close();
  }
}

function printStep(record: StepRecord, { steps }: TrainingRecipe): void {
  const { step, loss, rate, gradientNorm, rowsPerSecond, secondsLeft, reward, accuracy } = record;
  const parts = [
    `step ${step}/${steps}`,
    `loss ${loss.toFixed(4)}`,
    reward === undefined ? undefined : `reward ${reward.toFixed(3)}`,
    accuracy === undefined ? undefined : `right ${Math.round(100 * accuracy)} %`,
    `norm ${gradientNorm.toFixed(2)}`,
    `rate ${rate.toExponential(2)}`,
    `${Math.round(rowsPerSecond)} tokens/s`,
    `${timeText(secondsLeft)} left`,
  ];
  printLine(parts.filter((part) => part !== undefined).join("  "));
  const { decision } = record;
  if (!decision) return;
  const factors = `${decision.from.toPrecision(3)} → ${decision.to.toPrecision(3)}`;
  printLine(`AdaLRS ${decision.kind}: factor ${factors}`);
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
