/** Low-rank additions: merged weights compute what the additions compute, also through files. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { seededRandom } from "@/random.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { packBatch } from "@/data/stream/packed_batch.ts";
import { mergeIntoModel } from "./adapter_merge.ts";
import { readAdapter } from "./adapter_files.ts";
import type { LowRankModel } from "./low_rank.ts";
import { writeStore } from "./parameter_values.ts";
import { parseRecipe, type SupervisedRecipe } from "./recipes/recipe.ts";
import { resumeCheckpoint, writeCheckpoint } from "./run_checkpoint.ts";
import { openModelText } from "./model_text.ts";
import { openSetting } from "./run_setting.ts";
import { StageSamples } from "./stage_samples.ts";
import { Trainer } from "./trainer.ts";
import { loadTrainable } from "./training_source.ts";

const modelFolder = new URL("../../tests/fixtures/model/dense", import.meta.url).pathname;

const recipe = parseRecipe({
  name: "test",
  steps: 10,
  data: { mixture: { talk: 1, digit: 1 } },
  optimizer: { peakRate: 1e-2 },
  lora: { rank: 3, alpha: 6 },
}) as SupervisedRecipe;

const optimizer = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, normMax: 1 };

/** Log probabilities of a few samples under the weights in a folder. */
async function scores(folder: string, backend: Backend): Promise<Float32Array> {
  const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
  const model = await loadTrainable({ checkpoint, config, backend });
  checkpoint.close();
  const trainer = new Trainer({ backend, model, optimizer });
  const { logprobs } = await trainer.score(await batchOf(folder, config));
  trainer.close();
  model.set.close(backend);
  return logprobs;
}

async function batchOf(folder: string, config: Parameters<typeof openModelText>[1]) {
  const { encoder } = await openModelText(folder, config);
  const samples = new StageSamples(recipe.data);
  return packBatch(["talk", "digit"].map((source) => {
    const { sample } = samples.make({ source, index: 0, level: 0 });
    return encoder.encode(sample, { thinking: false });
  }));
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

/** Random values instead of the zeros that additions start with. */
async function learn(backend: Backend, { pairs }: LowRankModel): Promise<void> {
  const random = seededRandom(5);
  for (const { up } of pairs) {
    const values = Float32Array.from({ length: up.size }, () => 0.2 * (random() - 0.5));
    await writeStore(backend, up.store, values);
  }
}

Deno.test("additions, the checkpoint they are merged into, and `merge` give the same scores", async () => {
  const root = await Deno.makeTempDir();
  const backend = await openWasmBackend({ threads: 1, training: true });
  const { parts, trainer, model } = await openSetting({ recipe, modelFolder, backend });
  assert.ok("pairs" in model);
  const low = model as LowRankModel;
  assert.deepEqual(new Set(low.pairs.map(({ target }) => target)).size, 7);
  assert.ok(model.set.trainable.length === 2 * low.pairs.length, "nothing else learns");
  const batch = await batchOf(modelFolder, model.config);
  const before = (await trainer.score(batch)).logprobs;
  assert.deepEqual(before, await scores(modelFolder, backend), "additions start as nothing");
  await learn(backend, low);
  const added = (await trainer.score(batch)).logprobs;
  assert.ok(largestDifference(before, added) > 0.05, "the additions do something");

  const files = new Map<string, Uint8Array>();
  await writeCheckpoint(root, parts, { computed: 1, run: "x", files, kept: 1 });
  const folder = join(root, "checkpoint-00000001");
  const merged = await scores(folder, backend);
  assert.ok(largestDifference(added, merged) < 2e-4, `${largestDifference(added, merged)}`);
  const out = join(root, "merged");
  const adapter = join(folder, "adapter");
  await mergeIntoModel({ model: modelFolder, adapter, out });
  // The model's own dtype is narrower than the checkpoint's float32.
  assert.ok(largestDifference(await scores(out, backend), merged) < 0.1);
  assert.ok(largestDifference(await scores(out, backend), before) > 0.05);
  const stored = await readAdapter(adapter);
  assert.deepEqual([stored.scale, stored.pairs.size], [2, low.pairs.length]);

  for (const { up, down } of low.pairs) {
    for (const { store, size } of [up, down]) {
      await writeStore(backend, store, new Float32Array(size));
    }
  }
  assert.equal((await resumeCheckpoint(root, parts))!.run, "x");
  assert.deepEqual((await trainer.score(batch)).logprobs, added, "resumed bit for bit");
  trainer.close();
  model.set.close(backend);
  await backend.close();
  await Deno.remove(root, { recursive: true });
});

Deno.test("mergeIntoModel() names a matrix that an addition does not fit", async () => {
  const root = await Deno.makeTempDir();
  const backend = await openWasmBackend({ threads: 1, training: true });
  const { parts, trainer, model } = await openSetting({ recipe, modelFolder, backend });
  const files = new Map<string, Uint8Array>();
  await writeCheckpoint(root, parts, { computed: 1, run: "", files, kept: 1 });
  trainer.close();
  model.set.close(backend);
  await backend.close();
  const adapter = join(root, "checkpoint-00000001", "adapter");
  const other = new URL("../../models/nano", import.meta.url).pathname;
  const merge = mergeIntoModel({ model: other, adapter, out: join(root, "out") });
  await assert.rejects(merge, /layers\.0\.self_attn\.q_proj\.weight is \[\d+,\d+\], expected/);
  await Deno.remove(root, { recursive: true });
});
