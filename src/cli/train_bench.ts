/** `bench train`: how fast gradients are computed, beside the machine's float32 peak and PyTorch. */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { findPytorch, measurePytorch } from "@/bench/peers/pytorch.ts";
import { summarize } from "@/bench/report.ts";
import { measureTraining, type TrainingSpeed } from "@/bench/training_speed.ts";
import {
  measureStep,
  openStepTask,
  stepFlops,
  type StepMeasurement,
  type StepTask,
} from "@/bench/training_step.ts";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { type Flags, UsageError } from "./flags.ts";
import { printLine } from "./terminal.ts";

const REPEATS = 10;
const WARMUPS = 2;
/** Largest relative difference of loss and gradient norm of two engines that do the same step. */
const DIFFERENCE_MAX = 5e-3;
const PEER = "pytorch";

const rootFolder = fileURLToPath(new URL("../..", import.meta.url));

export async function trainBench(flags: Flags): Promise<number> {
  const threads = flags.number("threads") ?? navigator.hardwareConcurrency;
  const repeats = flags.number("repeats") ?? REPEATS;
  const cacheFolder = resolve(flags.string("cache") ?? join(rootFolder, ".cache/bench"));
  const python = wantsPytorch(flags) ? await findPytorch({ cacheFolder }) : undefined;
  const speed = await measureTraining({ clock: systemClock, repeats, threads });
  showProducts(speed);
  const task = await openStepTask(join(rootFolder, "models/nano"));
  const options = { threads, warmups: WARMUPS, repeats, clock: systemClock };
  const own = await measureStep(task, options);
  const rate = showStep("step of nano", own, { task, peakGflops: speed.peakGflops });
  if (python === undefined) return 0;
  const { version, ...peer } = await measurePytorch(python, task, options);
  checkSame(own, peer);
  const name = `PyTorch ${version}`;
  const peerRate = showStep(name, peer, { task, peakGflops: speed.peakGflops });
  // Once more: a machine that grew slower in between would flatter whoever came first.
  const again = showStep("step of nano, again", await measureStep(task, options), {
    task,
    peakGflops: speed.peakGflops,
  });
  printLine(`${((rate + again) / 2 / peerRate).toFixed(2)} times as fast as ${name}`);
  return 0;
}

function wantsPytorch(flags: Flags): boolean {
  const named = (flags.string("peers") ?? "").split(",").filter(Boolean);
  for (const name of named) {
    if (name !== PEER) throw new UsageError(`--peers names "${name}", expected ${PEER}`);
  }
  return named.length > 0;
}

function showProducts({ peakGflops, threads, products }: TrainingSpeed): void {
  printLine(`float32 peak ${peakGflops.toFixed(1)} GFLOP/s, ${threads} threads`);
  for (const { name, gflops, fraction } of products) {
    const percent = (100 * fraction).toFixed(0);
    printLine(`${name.padEnd(22)} ${gflops.toFixed(1).padStart(7)} GFLOP/s  ${percent} %`);
  }
  const mean = products.reduce((sum, { fraction }) => sum + fraction, 0) / products.length;
  printLine(`mean ${(100 * mean).toFixed(0)} % of the peak`);
}

/** Prints the median; returns its GFLOP/s. */
function showStep(
  name: string,
  { seconds }: StepMeasurement,
  { task, peakGflops }: { task: StepTask; peakGflops: number },
): number {
  const { min, median, max } = summarize(seconds);
  const gflops = stepFlops(task) / median / 1e9;
  const ms = [median, min, max].map((value) => (1000 * value).toFixed(0));
  const percent = (100 * gflops / peakGflops).toFixed(0);
  printLine(
    `${name}: ${ms[0]} ms (${ms[1]} to ${ms[2]}), ${task.samples} samples, ` +
      `${gflops.toFixed(1)} GFLOP/s, ${percent} % of the peak`,
  );
  return gflops;
}

function checkSame(own: StepMeasurement, peer: StepMeasurement): void {
  for (const what of ["loss", "gradientNorm"] as const) {
    if (Math.abs(own[what] - peer[what]) <= DIFFERENCE_MAX * Math.abs(own[what])) continue;
    throw new OperatingError(
      "internal",
      `Cannot compare with PyTorch: its ${what} is ${peer[what]}, ours ${own[what]}`,
    );
  }
}
