/** `bench train`: how fast gradients are computed, beside the machine's float32 peak. */
import { measureTraining } from "@/bench/training_speed.ts";
import { systemClock } from "@/clock.ts";
import type { Flags } from "./flags.ts";
import { printLine } from "./terminal.ts";

const REPEATS = 10;

export async function trainBench(flags: Flags): Promise<number> {
  const threads = flags.number("threads");
  const speed = await measureTraining({
    clock: systemClock,
    repeats: REPEATS,
    ...(threads !== undefined && { threads }),
  });
  printLine(`float32 peak ${speed.peakGflops.toFixed(1)} GFLOP/s, ${speed.threads} threads`);
  for (const { name, gflops, fraction } of speed.products) {
    const percent = (100 * fraction).toFixed(0);
    printLine(`${name.padEnd(22)} ${gflops.toFixed(1).padStart(7)} GFLOP/s  ${percent} %`);
  }
  const mean = speed.products.reduce((sum, { fraction }) => sum + fraction, 0) /
    speed.products.length;
  printLine(`mean ${(100 * mean).toFixed(0)} % of the peak`);
  return 0;
}
