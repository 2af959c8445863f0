/** One run of a recipe from the command line: lines of its steps, its report and page, its end. */
import { basename, join } from "node:path";
import { systemClock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import { runRecipe } from "@/training/recipe_run.ts";
import type { TrainingRecipe } from "@/training/recipes/recipe.ts";
import { checkpointSteps } from "@/training/run_checkpoint.ts";
import { REPORT_FILE, RunReport } from "@/training/report/run_report.ts";
import { readLog, type StepRecord } from "@/training/run_log.ts";
import { backendFlags } from "./backend_flags.ts";
import type { Flags } from "./flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";
import { judgeFlags } from "./train_judge.ts";
import { servePage } from "./train_page.ts";

export interface RunPlaces {
  readonly recipe: TrainingRecipe;
  readonly modelFolder: string;
  readonly folder: string;
}

/** Goes on from the newest checkpoint if there is one; the last model, or undefined when stopped. */
export async function trainToEnd(
  flags: Flags,
  { recipe, modelFolder, folder }: RunPlaces,
): Promise<string | undefined> {
  const steps = await checkpointSteps(folder);
  const report = new RunReport({
    recipe,
    model: basename(modelFolder),
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
      modelFolder,
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
    return isDone ? checkpoint : undefined;
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
