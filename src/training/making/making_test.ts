import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import type { ModelConfig } from "@/model/config.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import type { ProgramBatch } from "../packed_forward.ts";
import { readStore } from "../parameter_values.ts";
import { Trainer } from "../trainer.ts";
import { loadTrainable } from "../training_source.ts";
import { readModelFolder, writeModelFolder } from "./model_folder.ts";
import { questionTokenizer } from "./question_tokenizer.ts";
import { randomWeights } from "./random_weights.ts";
import { growResolution, interpolatedPositions } from "./resolution_growth.ts";
import { growSize } from "./size_growth.ts";
import { upcycleModel } from "./sparse_upcycling.ts";

const dense = fileURLToPath(new URL("../../../tests/fixtures/model/dense", import.meta.url));

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  await run(folder);
  await Deno.remove(folder, { recursive: true });
}

/** Opens the model in a folder with a trainer of all its parts. */
async function withTrainer<T>(
  folder: string,
  run: (opened: { trainer: Trainer; backend: Backend; config: ModelConfig }) => Promise<T>,
): Promise<T> {
  const backend = await openBackend({ name: "wasm", threads: 1, training: true });
  try {
    const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
    const model = await loadTrainable({ checkpoint, config, backend });
    checkpoint.close();
    const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, normMax: 1 };
    const trainer = new Trainer({ backend, model, optimizer });
    const result = await run({ trainer, backend, config });
    trainer.close();
    return result;
  } finally {
    await backend.close();
  }
}

/** Log probabilities that a model gives to some tokens of a text. */
function logprobs(folder: string): Promise<Float32Array> {
  return withTrainer(folder, async ({ trainer }) => {
    const scores = await trainer.score({
      tokenIds: Int32Array.of(3, 17, 40, 8, 21),
      positions: Int32Array.of(0, 1, 2, 3, 4),
      tiles: new Uint8Array(0),
      visualRows: new Int32Array(0),
      scoredRows: Int32Array.of(1, 2, 3, 4),
      targets: Int32Array.of(40, 8, 21, 2),
      weights: new Float32Array(4).fill(1),
    });
    return scores.logprobs;
  });
}

/** A tile with a white half, then a few tokens. */
function pictureBatch(
  { preprocess: { tileSize }, vision, mergeFactor }: ModelConfig,
): ProgramBatch {
  const tiles = new Uint8Array(tileSize * tileSize * 3);
  tiles.fill(255, tiles.length / 2);
  const visual = (tileSize / vision.patchSize / mergeFactor) ** 2;
  const rows = visual + 4;
  return {
    tokenIds: Int32Array.from({ length: rows }, (_, i) => i < visual ? 3 : 5 + i - visual),
    positions: Int32Array.from({ length: rows }, (_, i) => i),
    tiles,
    visualRows: Int32Array.from({ length: visual }, (_, i) => i),
    scoredRows: Int32Array.of(rows - 3, rows - 2, rows - 1),
    targets: Int32Array.of(7, 8, 9),
    weights: new Float32Array(3).fill(1),
  };
}

Deno.test("a model upcycled without noise answers like the dense one", () =>
  inFolder(async (folder) => {
    const out = join(folder, "sparse");
    const options = { experts: 4, expertsPerToken: 2, noise: 0, seed: 1 };
    await writeModelFolder(out, upcycleModel(await readModelFolder(dense), options), "F32");
    const { config } = await readModelFolder(out);
    assert.equal(config.decoder.moe?.experts, 4);
    const [expected, actual] = [await logprobs(dense), await logprobs(out)];
    for (const [i, value] of expected.entries()) {
      assert.ok(Math.abs(value - actual[i]!) < 1e-4, `${value} and ${actual[i]}`);
    }
    const noisy = upcycleModel(await readModelFolder(dense), { ...options, noise: 0.1 });
    const of = (expert: number) => noisy.tensors.get(`decoder.0.experts.${expert}.up.weight`)!;
    assert.notDeepEqual(of(0).values, of(1).values);
  }));

Deno.test("a written model folder reads back, rounded to bfloat16 when asked", () =>
  inFolder(async (folder) => {
    const model = await readModelFolder(dense);
    for (const dtype of ["F32", "BF16"] as const) {
      await writeModelFolder(join(folder, dtype), model, dtype);
      const back = await readModelFolder(join(folder, dtype));
      assert.deepEqual([...back.tensors.keys()].sort(), [...model.tensors.keys()].sort());
      for (const [name, { shape, values }] of model.tensors) {
        assert.deepEqual(back.tensors.get(name)!.shape, shape);
        const rounding = dtype === "F32" ? 0 : 2 ** -8;
        back.tensors.get(name)!.values.forEach((value, i) => {
          assert.ok(Math.abs(value - values[i]!) <= rounding * Math.abs(values[i]!), name);
        });
      }
    }
  }));

Deno.test("growResolution() interpolates positions and changes the sizes that files state", async () => {
  const flat = interpolatedPositions(new Float32Array(4 * 3).fill(2), { from: 2, to: 5, width: 3 });
  assert.ok(flat.every((value) => value === 2));
  // Rows 0 and 1 of a 2x2 grid hold their number: it rises evenly in between.
  const rising = interpolatedPositions(Float32Array.of(0, 0, 1, 1), { from: 2, to: 4, width: 1 });
  assert.deepEqual([...rising].filter((_, i) => i % 4 === 0), [0, 0.25, 0.75, 1]);
  const model = await readModelFolder(dense);
  const { tileSize } = model.config.preprocess;
  const grown = growResolution(model, 2 * tileSize);
  const config = JSON.parse(grown.files.get("config.json")!);
  assert.equal(config.force_image_size, 2 * tileSize);
  assert.equal(config.vision_config.image_size, 2 * tileSize);
  assert.equal(config.vision_config.hidden_size, model.config.vision.hiddenWidth);
  const patches = (2 * tileSize / model.config.vision.patchSize) ** 2;
  assert.deepEqual(grown.tensors.get("vision.position")!.shape.slice(0, 2), [1, patches]);
});

Deno.test("growSize() makes a deeper and wider model that answers the same, and learns", () =>
  inFolder(async (folder) => {
    const model = await readModelFolder(dense);
    const { vision, decoder } = model.config;
    const grown = await growSize(model, {
      visionLayers: vision.layers + 1,
      visionMlp: vision.intermediateWidth + 12,
      decoderLayers: decoder.layers + 2,
      decoderMlp: decoder.intermediateWidth + 8,
    }, 3);
    await writeModelFolder(folder, grown, "F32");
    const { config } = await readModelFolder(folder);
    assert.deepEqual(
      [config.vision.layers, config.decoder.layers],
      [vision.layers + 1, decoder.layers + 2],
    );
    const scoresOf = (folder: string) =>
      withTrainer(folder, async ({ trainer, config }) => {
        return (await trainer.score(pictureBatch(config))).logprobs;
      });
    const [expected, actual] = [await scoresOf(dense), await scoresOf(folder)];
    for (const [i, value] of expected.entries()) {
      assert.ok(Math.abs(value - actual[i]!) < 1e-5, `${value} and ${actual[i]}`);
    }
    await withTrainer(folder, async ({ trainer, backend, config }) => {
      const { set } = trainer.model;
      set.choose(backend, () => true);
      await trainer.step([pictureBatch(config)], () => ({ rate: 0.01, decay: 0 }));
      for (const name of [`vision.${vision.layers}.down`, `decoder.${decoder.layers + 1}.output`]) {
        const { store } = set.parameters.find((one) => one.name === `${name}.weight`)!;
        assert.ok((await readStore(backend, store)).some((value) => value !== 0), name);
      }
    });
  }));

Deno.test("growSize() names what cannot be", async () => {
  const model = await readModelFolder(dense);
  const { layers } = model.config.vision;
  const problem = new RegExp(`the vision's layers are ${layers} and cannot become ${layers - 1}`);
  await assert.rejects(growSize(model, { visionLayers: layers - 1 }, 1), problem);
  const options = { experts: 4, expertsPerToken: 2, noise: 0, seed: 1 };
  const sparse = upcycleModel(model, options);
  await assert.rejects(growSize(sparse, { decoderMlp: 10_000 }, 1), /its decoder has experts/);
});

Deno.test("randomWeights() give a whole model that loads, the same for the same seed", () =>
  inFolder(async (folder) => {
    const model = await readModelFolder(dense);
    const tensors = await randomWeights(model.config, 7);
    await writeModelFolder(folder, { ...model, tensors }, "F32");
    assert.ok((await logprobs(folder)).every((value) => value < 0 && value > -20));
    const again = await randomWeights(model.config, 7);
    assert.deepEqual(again.get("vision.0.gate.weight"), tensors.get("vision.0.gate.weight"));
    const position = tensors.get("vision.position")!.values;
    const square = position.reduce((sum, value) => sum + value ** 2, 0) / position.length;
    assert.ok(Math.abs(Math.sqrt(square) - 0.7) < 0.05);
  }));

Deno.test("questionTokenizer() has words of questions whole and answers by the letter", () => {
  const corpus = ["What is the word?", "How many circles are in the picture?", "the word is here"];
  const tokenizer = questionTokenizer(corpus, 400);
  const pieces = (text: string) => [...tokenizer.encode(text)].map((id) => tokenizer.decode([id]));
  assert.deepEqual(pieces("What is the word?"), ["What", " is", " the", " word", "?"]);
  assert.deepEqual(pieces("word"), ["w", "o", "r", "d"]);
  assert.equal(tokenizer.size, 400);
  assert.equal(tokenizer.decode(tokenizer.encode("<think>é</think>")), "<think>é</think>");
});
