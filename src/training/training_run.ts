/**
 * A run: steps of a driver until the last one, with a line of the log for each, checkpoints on the
 * way, and an end that can be asked for. Whoever starts it again goes on from the newest checkpoint
 * with the same bits. What a step is, the driver knows: supervised (`supervised_run.ts`) or
 * reinforcement.
 */
import type { Clock } from "@/clock.ts";
import {
  checkpointFolder,
  resumeCheckpoint,
  type ResumedRun,
  type RunParts,
  writeCheckpoint,
} from "./run_checkpoint.ts";
import { appendRecord, cutLog, type StepFigures, type StepRecord } from "./run_log.ts";

/** One kind of training. */
export interface RunDriver {
  /** Steps done, of those that the recipe counts; AdaLRS may take some back. */
  readonly stepsDone: number;
  /** Does one step more. */
  step(): Promise<StepFigures>;
  /** JSON that a checkpoint keeps: with it and the weights the next step is the same. */
  readonly state: unknown;
  /** What else a checkpoint keeps, by the name of its file. */
  files?(): Promise<ReadonlyMap<string, Uint8Array>>;
}

export interface RunOptions {
  readonly parts: RunParts;
  /** Opens the driver at the beginning, or at what a checkpoint kept. */
  readonly openDriver: (resumed: ResumedRun | undefined) => Promise<RunDriver>;
  readonly steps: number;
  /** Log and checkpoints lie here. */
  readonly folder: string;
  readonly checkpoints: { readonly everySteps: number; readonly kept: number };
  readonly clock: Clock;
  readonly onStep?: (record: StepRecord) => void;
  /** A checkpoint was written. */
  readonly onCheckpoint?: (folder: string) => Promise<void> | void;
  /** Once true, the run saves after the step and ends. */
  readonly isStopping?: () => boolean;
}

export interface RunEnd {
  readonly stepsDone: number;
  /** Model folder of the newest checkpoint; missing when no step was ever done. */
  readonly checkpoint: string | undefined;
}

/** Steps whose mean time tells how long the rest takes. */
const PACE_STEPS = 20;

/** Runs to the last step or until it is told to stop. */
export async function trainRun(options: RunOptions): Promise<RunEnd> {
  const { parts, folder, steps, clock, checkpoints } = options;
  await Deno.mkdir(folder, { recursive: true });
  const resumed = await resumeCheckpoint(folder, parts);
  const driver = await options.openDriver(resumed);
  let computed = resumed?.computed ?? 0;
  await cutLog(folder, computed);
  const times: number[] = [];
  let saved = computed;
  const save = async () => {
    const run = driver.state;
    const files = await driver.files?.() ?? new Map<string, Uint8Array>();
    await writeCheckpoint(folder, parts, { computed, run, files, kept: checkpoints.kept });
    saved = computed;
    await options.onCheckpoint?.(checkpointFolder(folder, computed));
  };
  while (driver.stepsDone < steps && !options.isStopping?.()) {
    const startMs = clock.nowMs();
    const step = driver.stepsDone + 1;
    const figures = await driver.step();
    computed++;
    const seconds = (clock.nowMs() - startMs) / 1000;
    times.push(seconds);
    if (times.length > PACE_STEPS) times.shift();
    const pace = times.reduce((sum, time) => sum + time, 0) / times.length;
    const record: StepRecord = {
      step,
      computed,
      ...figures,
      seconds,
      rowsPerSecond: figures.rows / seconds,
      secondsLeft: pace * (steps - driver.stepsDone),
    };
    await appendRecord(folder, record);
    options.onStep?.(record);
    if (computed % checkpoints.everySteps === 0) await save();
  }
  if (saved < computed) await save();
  const checkpoint = computed > 0 ? checkpointFolder(folder, computed) : undefined;
  return { stepsDone: driver.stepsDone, checkpoint };
}
