import assert from "node:assert/strict";
import { SchedulerSimulation } from "./scheduler_simulation.ts";

/** `SIMULATION_SEED=n` runs one seed, `SIMULATION_COUNT=n` more of them. */
const only = Deno.env.get("SIMULATION_SEED");
const count = Number(Deno.env.get("SIMULATION_COUNT") ?? 300);

Deno.test("Scheduler gives every request the tokens it gets alone, under any load", async () => {
  const totals = {
    preemptions: 0,
    prefixHitTokens: 0,
    visionCacheHits: 0,
    finished: 0,
    draftsAccepted: 0,
    draftsRejected: 0,
  };
  const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i) : [Number(only)];
  for (const seed of seeds) {
    try {
      const counts = await new SchedulerSimulation(seed).run();
      for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += counts[key];
    } catch (cause) {
      throw new Error(`Simulation failed: rerun with SIMULATION_SEED=${seed}`, { cause });
    }
  }
  if (only !== undefined) return;
  // A simulation that never meets the hard cases proves nothing.
  for (const [what, total] of Object.entries(totals)) {
    assert.ok(total > count / 4, `${what} is rare`);
  }
});
