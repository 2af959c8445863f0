import assert from "node:assert/strict";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import {
  calibrateWeights,
  type ExpertProbe,
  layerEntropies,
  probeExperts,
} from "./expert_probe.ts";
import { parseRecipe } from "./recipes/recipe.ts";
import { openModelText } from "./model_text.ts";
import { StageSamples } from "./stage_samples.ts";
import { loadTrainable } from "./training_source.ts";

const fixture = (name: string) =>
  new URL(`../../tests/fixtures/model/${name}`, import.meta.url).pathname;

async function probe(name: string): Promise<ExpertProbe> {
  const backend = await openWasmBackend({ threads: 1, training: true });
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(fixture(name)) });
  const model = await loadTrainable({ checkpoint, config, backend });
  checkpoint.close();
  const recipe = parseRecipe({
    name: "probe",
    steps: 1,
    data: { mixture: { talk: 1, digit: 1 } },
    optimizer: { peakRate: 1 },
  });
  assert.ok(recipe.kind === "supervised");
  const { encoder } = await openModelText(fixture(name), config);
  const samples = new StageSamples(recipe.data);
  try {
    return await probeExperts({
      backend,
      model,
      encoder,
      samples,
      tasks: ["talk", "digit"],
      count: 3,
    });
  } finally {
    model.set.close(backend);
    await backend.close();
  }
}

Deno.test("probeExperts() counts each row's choices in each sparse layer", async () => {
  const { layers, tasks } = await probe("moe");
  assert.deepEqual(layers, [0, 1, 2, 3]);
  for (const { assigned } of tasks) {
    const totals = assigned.map((row) => row.reduce((a, b) => a + b, 0));
    assert.ok(totals[0]! > 0 && totals[0]! % 2 === 0, "two experts for each row");
    assert.deepEqual(new Set(totals).size, 1, "the same rows meet all layers");
  }
  await assert.rejects(probe("dense"), /Cannot probe experts: the model has none/);
});

/** Two tasks that use different experts, one of them with twice the rows. */
const made: ExpertProbe = {
  layers: [0],
  tasks: [
    { task: "a", samples: 10, assigned: [[200, 0]] },
    { task: "b", samples: 10, assigned: [[0, 100]] },
  ],
};

Deno.test("calibrateWeights() evens the experts out, counted by rows, within its bound", () => {
  assert.equal(layerEntropies(made, [1, 2])[0], 1);
  const free = calibrateWeights(made, [1, 1], 100);
  assert.ok(Math.abs(free[1]! / free[0]! - 2) < 1e-3, `${free}`);
  assert.ok(layerEntropies(made, free)[0]! > 0.9999);
  assert.ok(Math.abs(free[0]! + free[1]! - 2) < 1e-9, "the sum stays");
  // Of the rows, b has 1 in 17; it may have 1.5 times as many.
  const bounded = calibrateWeights(made, [8, 1], 1.5);
  const share = bounded[1]! / (2 * bounded[0]! + bounded[1]!);
  assert.ok(Math.abs(share - 1.5 / 17) < 1e-6, `${share}`);
  assert.ok(layerEntropies(made, bounded)[0]! > layerEntropies(made, [8, 1])[0]!);
});
