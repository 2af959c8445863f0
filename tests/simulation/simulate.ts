/**
 * `deno task simulate [--seeds N] [--seed S]`: lives of simulated clusters. Seeds run from S (default
 * 0); the first that fails is run again with a trace. `--seeds 1 --seed S` always shows the trace.
 */
import { parseArgs } from "node:util";
import { ClusterSimulation } from "./cluster_simulation.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: { seeds: { type: "string" }, seed: { type: "string" } },
});
const first = Number(values.seed ?? 0);
const seeds = Number(values.seeds ?? (values.seed === undefined ? 1000 : 1));
if (![first, seeds].every((value) => Number.isSafeInteger(value) && value >= 0)) {
  throw new TypeError("--seeds and --seed are whole numbers");
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** Runs one seed; the error when something that must hold did not. */
function failureOf(seed: number, trace?: (line: string) => void): unknown {
  try {
    const counts = new ClusterSimulation(seed, trace ? { trace } : {}).run();
    trace?.(JSON.stringify(counts));
    return undefined;
  } catch (error) {
    return error;
  }
}

for (let seed = first; seed < first + seeds; seed++) {
  const failure = failureOf(seed, seeds === 1 ? print : undefined);
  if (failure === undefined) continue;
  if (seeds > 1) failureOf(seed, print);
  print(`seed ${seed} fails: ${failure instanceof Error ? failure.stack : failure}`);
  Deno.exit(1);
}
print(`${seeds} seeds hold`);
