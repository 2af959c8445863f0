/** Steps of a supervised run: what AdaLRS takes back, what the curriculum sees, who thinks. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { systemClock } from "@/clock.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { inTemporaryFolder } from "../../tests/temporary_folder.ts";
import { runRecipe } from "./recipe_run.ts";
import { parseRecipe, type SupervisedRecipe } from "./recipes/recipe.ts";
import { readStore } from "./parameter_values.ts";
import { openSetting, type RunSetting } from "./run_setting.ts";
import { encodeSnapshot, takeSnapshot } from "./run_snapshot.ts";
import { StageSamples } from "./stage_samples.ts";
import { SupervisedRun } from "./supervised_run.ts";

const modelFolder = new URL("../../tests/fixtures/model/moe", import.meta.url).pathname;

const least = {
  name: "test",
  steps: 60,
  data: { mixture: { talk: 1, digit: 1 } },
  optimizer: { peakRate: 1e-3 },
  packing: { tokensMax: 200, packsTogether: 2, bufferSamples: 16 },
};

function recipeOf(change: Record<string, unknown>): SupervisedRecipe {
  const recipe = parseRecipe({ ...least, ...change });
  assert.ok(recipe.kind === "supervised");
  return recipe;
}

async function withRun(
  recipe: SupervisedRecipe,
  use: (run: SupervisedRun, setting: RunSetting) => Promise<void>,
): Promise<void> {
  const backend = await openWasmBackend({ threads: 1, training: true });
  const setting = await openSetting({ recipe, modelFolder, backend });
  await use(await SupervisedRun.open(setting, recipe, undefined), setting);
  setting.trainer.close();
  setting.model.set.close(backend);
  await backend.close();
}

Deno.test("the first layers of a part stay as they were, and all that lies before them", () => {
  const recipe = recipeOf({
    trainable: ["vision", "decoder"],
    frozenLayers: { vision: 1, decoder: 1 },
    data: { mixture: { digit: 1 } },
  });
  return withRun(recipe, async (run, { backend, model: { set } }) => {
    const read = async () => {
      const values = new Map<string, Float32Array>();
      for (const { name, store } of set.parameters) {
        values.set(name, await readStore(backend, store));
      }
      return values;
    };
    const before = await read();
    for (let step = 0; step < 3; step++) await run.step();
    const after = await read();
    const moved = (name: string) =>
      after.get(name)!.some((value, i) => value !== before.get(name)![i]);
    const stays = /^(adapter\.|vision\.(0|patch|patchNorm|position)\b|decoder\.(0|embedding)\b)/;
    for (const name of before.keys()) {
      // Experts that no token chose, and gates of probabilities that are all the same, may rest.
      if (name.includes(".experts.") && !stays.test(name)) continue;
      assert.equal(moved(name), !stays.test(name), name);
    }
  });
});

Deno.test("layers of a part that is frozen as a whole cannot be chosen", () => {
  const wrong = () => recipeOf({ trainable: ["adapter"], frozenLayers: { decoder: 1 } });
  assert.throws(wrong, /frozenLayers.decoder.*all of the decoder is frozen/s);
});

const json = (value: unknown) => JSON.parse(JSON.stringify(value));

Deno.test("a probe that loses leaves weights, moments, step, data and curriculum as they were", () => {
  const recipe = recipeOf({
    data: { mixture: { talk: 1, digit: 1 }, curriculum: { threshold: 0, window: 4 } },
    // A rate a hundred times as high makes the loss rise at once.
    optimizer: { peakRate: 1e-2 },
    adaptiveRate: { windowSteps: 4, up: 100, searchFrom: 0.05, searchTo: 0.9 },
  });
  return withRun(recipe, async (run, { backend, model: { set }, trainer: { optimizer } }) => {
    const parts = { backend, set, optimizer };
    let kept: { bytes: Uint8Array; state: unknown; losses: number[] } | undefined;
    for (let step = 0; step < 20; step++) {
      const { decision, loss } = await run.step();
      if (decision?.kind === "probe") {
        const bytes = (await run.files()).get("probe.safetensors")!;
        assert.deepEqual(bytes, encodeSnapshot(await takeSnapshot(parts)));
        kept = { bytes, state: json(run.state), losses: [] };
      } else if (decision) {
        assert.ok(decision.kind === "abort" || decision.kind === "reject", decision.kind);
        assert.ok(kept!.losses.length > 0, "steps were computed that are taken back");
        assert.deepEqual(encodeSnapshot(await takeSnapshot(parts)), kept!.bytes);
        const { adaptive: _, probe, ...before } = kept!.state as Record<string, unknown>;
        const { adaptive: __, ...after } = json(run.state);
        assert.deepEqual(after, before);
        assert.equal(run.stepsDone, (probe as { stepCount: number }).stepCount);
        assert.equal((await run.files()).size, 0);
        const first = await run.step();
        assert.equal(first.loss, kept!.losses[0], "the same data meets the same weights again");
        return;
      } else kept?.losses.push(loss);
      if (decision?.kind === "probe") continue;
    }
    assert.fail("no probe was taken back");
  });
});

Deno.test("the curriculum rises by right answers of its own level alone", () => {
  const curriculum = { threshold: 0, window: 3, tasks: ["digit"] };
  const recipe = recipeOf({ data: { mixture: { talk: 1, digit: 1 }, curriculum } });
  return withRun(recipe, async (run) => {
    const levels: number[] = [];
    for (let step = 0; step < 8; step++) levels.push((await run.step()).level!);
    assert.ok(levels.every((level, i) => i === 0 || level - levels[i - 1]! <= 1), `${levels}`);
    assert.ok(levels.at(-1)! >= 1, `${levels}`);
    // Samples of the first level wait in the buffer: they do not count for the second.
    const { curriculum, cursor } = run.state;
    assert.equal(cursor.level, curriculum!.level);
  });
});

Deno.test("an impossible threshold keeps the first level; accuracy is measured as asked", () => {
  const curriculum = { threshold: 1, window: 500 };
  return withRun(recipeOf({ data: { mixture: { digit: 1 }, curriculum } }), async (run) => {
    const figures = await run.step();
    assert.equal(figures.level, 0);
    const [right, all] = figures.accuracyByTask!["digit"]!;
    assert.equal(figures.accuracy, right / all);
    assert.ok(figures.completions!.length > 0 && figures.completions![0]!.expected!.length > 0);
  });
});

Deno.test("thinkingShare asks that share of the samples with a thought, always the same ones", () => {
  const { data } = recipeOf({
    data: { seed: 3, mixture: { arithmetic: 1, word: 1 }, thinkingShare: 0.25 },
  });
  const samples = new StageSamples(data);
  const thinks = (source: string, index: number) =>
    samples.make({ source, index, level: 0 }).thinking;
  const drawn = Array.from({ length: 200 }, (_, index) => thinks("arithmetic", index));
  const share = drawn.filter(Boolean).length / drawn.length;
  assert.ok(share > 0.15 && share < 0.35, `${share}`);
  assert.deepEqual(drawn, Array.from({ length: 200 }, (_, index) => thinks("arithmetic", index)));
  assert.ok(!Array.from({ length: 50 }, (_, index) => thinks("word", index)).some(Boolean));
});

Deno.test("rows of a data file are drawn beside the makers' samples, each once an epoch", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/mine.jsonl`;
  const row = (answer: string) =>
    JSON.stringify({
      messages: [{ role: "user", content: "Which?" }, { role: "assistant", content: answer }],
    });
  await Deno.writeTextFile(path, ["one", "two", "three"].map(row).join("\n"));
  const data = { mixture: { digit: 1 }, files: [{ path, weight: 3 }] };
  const recipe = recipeOf({ data, accuracySteps: 1 });
  await withRun(recipe, async (run, setting) => {
    const { accuracyByTask } = await run.step();
    assert.deepEqual(Object.keys(accuracyByTask!).sort(), ["digit", "mine.jsonl"]);
    const state = json(run.state);
    assert.match(state.files["mine.jsonl"], /^[0-9a-f]{64}$/);
    const resumed = { computed: 1, run: state, folder };
    await SupervisedRun.open(setting, recipe, resumed);
    await Deno.writeTextFile(path, row("four"));
    await assert.rejects(SupervisedRun.open(setting, recipe, resumed), /is not the file that/);
  });
  await Deno.remove(folder, { recursive: true });
});

/** Runs a recipe in a folder with so many threads, up to `until` steps; returns the losses. */
async function runTo(
  recipe: SupervisedRecipe,
  { folder, threads, until = Infinity }: { folder: string; threads: number; until?: number },
): Promise<number[]> {
  const backend = await openWasmBackend({ threads, training: true });
  const losses: number[] = [];
  await runRecipe({
    ...{ recipe, modelFolder, folder, backend, clock: systemClock },
    onStep: ({ loss }) => losses.push(loss),
    isStopping: () => losses.length >= until,
  });
  await backend.close();
  return losses;
}

Deno.test("a run by Muon goes on bit for bit with another number of threads", () =>
  inTemporaryFolder(async (folder) => {
    const optimizer = { kind: "muon", peakRate: 2e-3 };
    const recipe = recipeOf({ steps: 8, optimizer, checkpoints: { everySteps: 8 } });
    const [whole, halves] = [join(folder, "whole"), join(folder, "halves")];
    const losses = await runTo(recipe, { folder: whole, threads: 1 });
    const first = await runTo(recipe, { folder: halves, threads: 1, until: 4 });
    const rest = await runTo(recipe, { folder: halves, threads: 2 });
    assert.deepEqual([first.length, rest.length], [4, 4]);
    assert.deepEqual([...first, ...rest], losses);
    const plain = recipeOf({ steps: 8, optimizer: { peakRate: 2e-3 } });
    const other = await runTo(plain, { folder: join(folder, "plain"), threads: 1 });
    assert.equal(other[0], losses[0]);
    assert.notEqual(other.at(-1), losses.at(-1));
    const read = (run: string, name: string) =>
      Deno.readFile(join(run, "checkpoint-00000008", name));
    for (const name of ["model.safetensors", "training/moments.safetensors"]) {
      assert.deepEqual(await read(halves, name), await read(whole, name), name);
    }
    const moments = new TextDecoder().decode(
      (await read(whole, "training/moments.safetensors")).subarray(0, 200_000),
    );
    // A matrix of a layer has one running mean, everything else two.
    assert.ok(moments.includes('"decoder.0.query.weight.first"'));
    assert.ok(!moments.includes('"decoder.0.query.weight.second"'));
    assert.ok(moments.includes('"decoder.embedding.second"'));
  }));
