import assert from "node:assert/strict";
import { ClusterSimulation } from "./cluster_simulation.ts";
import type { PlantedBug } from "./cluster_processes.ts";

/** `SIMULATION_SEED=n` runs one seed, `SIMULATION_COUNT=n` more of them. */
const only = Deno.env.get("SIMULATION_SEED");
const count = Number(Deno.env.get("SIMULATION_COUNT") ?? 300);

Deno.test("a cluster combines every expert once, loses none and comes to rest, under any faults", () => {
  const totals: Record<string, number> = {};
  const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i) : [Number(only)];
  for (const seed of seeds) {
    try {
      for (const [name, value] of Object.entries(new ClusterSimulation(seed).run())) {
        totals[name] = (totals[name] ?? 0) + value;
      }
    } catch (cause) {
      throw new Error(`Simulation failed: rerun with deno task simulate --seed ${seed}`, { cause });
    }
  }
  if (only !== undefined) return;
  // A simulation that never meets the hard cases proves nothing.
  for (const [what, total] of Object.entries(totals)) {
    assert.ok(total > count / 4, `${what} is rare: ${total}`);
  }
});

Deno.test("a seed gives the same life again, word for word", () => {
  const traces = [0, 1].map(() => {
    const lines: string[] = [];
    new ClusterSimulation(77, { trace: (line) => lines.push(line) }).run();
    return lines;
  });
  assert.ok(traces[0]!.length > 100);
  assert.deepEqual(traces[0], traces[1]);
});

const bugs: readonly PlantedBug[] = [
  "epochs_unchecked",
  "plans_overwritten",
  "early_drop",
  "late_parts_combined",
  "hedges_unbounded",
  "no_retries",
];

for (const bug of bugs) {
  Deno.test(`the cluster's checkers see a planted bug: ${bug}`, () => {
    for (let seed = 0; seed < 200; seed++) {
      try {
        new ClusterSimulation(seed, { bug }).run();
      } catch (error) {
        assert.ok(error instanceof assert.AssertionError, `${error}`);
        return;
      }
    }
    assert.fail("nobody noticed");
  });
}
