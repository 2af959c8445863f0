/**
 * A run: rounds of batches through the trainer until the last step, with a line of the log for each,
 * checkpoints on the way, and an end that can be asked for. Whoever starts it again with the same
 * recipe goes on from the newest checkpoint with the same bits.
 */
import { join } from "node:path";
import type { Clock } from "@/clock.ts";
import type { ProgramBatch } from "./packed_forward.ts";
import type { ParameterRate } from "./optimizer.ts";
import type { Parameter } from "./parameter_set.ts";
import { resumeCheckpoint, type RunParts, writeCheckpoint } from "./run_checkpoint.ts";
import type { StepResult, Trainer } from "./trainer.ts";

/** Where rounds of micro-batches come from; its state is JSON and names the next round. */
export interface BatchSource {
  nextRound(): Promise<readonly ProgramBatch[]>;
  readonly state: unknown;
}

/** One line of the log. */
export interface StepRecord extends StepResult {
  /** From 1. */
  readonly step: number;
  /** Rate of the step, before factors of parts. */
  readonly rate: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  readonly secondsLeft: number;
}

export interface RunOptions {
  readonly trainer: Trainer;
  readonly parts: RunParts;
  /** Opened at its beginning, or at the state that an earlier run left. */
  readonly openSource: (state: unknown) => Promise<BatchSource>;
  readonly steps: number;
  /** Rate of a step, counted from 0. */
  readonly rateAt: (step: number) => number;
  readonly rateOf: (parameter: Parameter, rate: number) => ParameterRate;
  /** Log and checkpoints lie here. */
  readonly folder: string;
  readonly checkpointSteps: number;
  readonly checkpointsKept: number;
  readonly clock: Clock;
  readonly onStep?: (record: StepRecord) => void;
  /** Once true, the run saves after the step and ends. */
  readonly isStopping?: () => boolean;
}

const LOG = "log.jsonl";
/** Steps whose mean time tells how long the rest takes. */
const PACE_STEPS = 20;

/** Runs to the last step or until it is told to stop; returns the steps done in all. */
export async function trainRun(options: RunOptions): Promise<number> {
  const { trainer, parts, folder, steps, clock } = options;
  await Deno.mkdir(folder, { recursive: true });
  const { optimizer } = trainer;
  const state = await resumeCheckpoint(folder, parts);
  const source = await options.openSource(state);
  await cutLog(join(folder, LOG), optimizer.stepCount);
  const times: number[] = [];
  let savedStep = optimizer.stepCount;
  const save = async () => {
    await writeCheckpoint(folder, parts, { run: source.state, kept: options.checkpointsKept });
    savedStep = optimizer.stepCount;
  };
  while (optimizer.stepCount < steps && !options.isStopping?.()) {
    const startMs = clock.nowMs();
    const rate = options.rateAt(optimizer.stepCount);
    const batches = await source.nextRound();
    const result = await trainer.step(batches, (parameter) => options.rateOf(parameter, rate));
    times.push((clock.nowMs() - startMs) / 1000);
    if (times.length > PACE_STEPS) times.shift();
    const pace = times.reduce((sum, time) => sum + time, 0) / times.length;
    const record: StepRecord = {
      step: optimizer.stepCount,
      rate,
      ...result,
      seconds: times.at(-1)!,
      rowsPerSecond: result.rows / times.at(-1)!,
      secondsLeft: pace * (steps - optimizer.stepCount),
    };
    await Deno.writeTextFile(join(folder, LOG), JSON.stringify(record) + "\n", { append: true });
    options.onStep?.(record);
    if (optimizer.stepCount % options.checkpointSteps === 0) await save();
  }
  if (savedStep < optimizer.stepCount) await save();
  return optimizer.stepCount;
}

/** Leaves the lines of the first `steps` steps: what came after the checkpoint comes again. */
async function cutLog(path: string, steps: number): Promise<void> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  // The last line of a killed run may be cut.
  const lines = text.split("\n").slice(0, -1);
  const kept = lines.filter((line) => (JSON.parse(line) as StepRecord).step <= steps);
  await Deno.writeTextFile(`${path}.partial`, kept.map((line) => line + "\n").join(""));
  await Deno.rename(`${path}.partial`, path);
}
