import assert from "node:assert/strict";
import { join } from "node:path";
import { seededRandom } from "@/random.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { encodeSafetensors } from "@/weights/safetensors_writer.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { LINEAGE_FILE } from "./lineage.ts";
import { chooseGreedily, openIngredient, writeSoup } from "./soup.ts";

const NAME = "language_model.model.embed_tokens.weight";

/** A folder of one matrix; `shift` moves it a little from what `seed` draws. */
async function model(
  folder: string,
  { seed, shift = 0, ancestors, rows = 8 }: {
    seed: number;
    shift?: number;
    ancestors?: string[];
    rows?: number;
  },
): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  const random = seededRandom(seed);
  const values = Float32Array.from({ length: rows * 4 }, () => random() - 0.5 + shift);
  const tensor = {
    name: NAME,
    dtype: "F32" as const,
    shape: [rows, 4],
    bytes: new Uint8Array(values.buffer),
  };
  await Deno.writeFile(join(folder, "model.safetensors"), encodeSafetensors([tensor]));
  await Deno.writeTextFile(join(folder, "config.json"), "{}");
  if (ancestors) {
    await Deno.writeTextFile(join(folder, LINEAGE_FILE), JSON.stringify({ ancestors }));
  }
  return folder;
}

async function mix(folders: readonly string[], out: string, more: object = {}): Promise<void> {
  const models = [];
  try {
    for (const folder of folders) models.push(await openIngredient(folder));
    await writeSoup({ models, out, ...more });
  } finally {
    for (const { checkpoint } of models) checkpoint.close();
  }
}

async function floats(folder: string): Promise<Float32Array> {
  const checkpoint = await Checkpoint.open(diskFolder(folder));
  const [tensor] = checkpoint.tensors.values();
  const bytes = await checkpoint.read(tensor!, 0, tensor!.sizeBytes);
  checkpoint.close();
  return new Float32Array(bytes.slice().buffer);
}

Deno.test("writeSoup() averages relatives, with weights, and keeps the other files", async () => {
  const root = await Deno.makeTempDir();
  const a = await model(join(root, "a"), { seed: 1, ancestors: ["base", "a"] });
  const b = await model(join(root, "b"), { seed: 1, shift: 0.1, ancestors: ["base", "b"] });
  await mix([a, b], join(root, "even"));
  await mix([a, b], join(root, "tilted"), { weights: [3, 1] });
  const base = await floats(a);
  const near = (got: Float32Array, shift: number) =>
    got.every((value, i) => Math.abs(value - base[i]! - shift) < 1e-6);
  assert.ok(near(await floats(join(root, "even")), 0.05));
  assert.ok(near(await floats(join(root, "tilted")), 0.025));
  assert.equal(await Deno.readTextFile(join(root, "even", "config.json")), "{}");
  const lineage = JSON.parse(await Deno.readTextFile(join(root, "even", LINEAGE_FILE)));
  assert.deepEqual(lineage.ancestors, ["base"]);
  await assert.rejects(mix([a, b], join(root, "even")), /exists/);
  await assert.rejects(mix([a, b], join(root, "x"), { weights: [1] }), /expected one each/);
  await Deno.remove(root, { recursive: true });
});

Deno.test("writeSoup() refuses strangers unless forced, and misfits always", async () => {
  const root = await Deno.makeTempDir();
  const a = await model(join(root, "a"), { seed: 1, ancestors: ["base"] });
  const stranger = await model(join(root, "s"), { seed: 1, ancestors: ["other"] });
  await assert.rejects(mix([a, stranger], join(root, "o")), /share no ancestor/);
  await mix([a, stranger], join(root, "forced"), { force: true });
  const unknown = await model(join(root, "u"), { seed: 2 });
  await assert.rejects(mix([a, unknown], join(root, "o")), /unrelated weights: cosine/);
  const likely = await model(join(root, "l"), { seed: 1, shift: 0.01 });
  await mix([a, likely], join(root, "alike"));
  const larger = await model(join(root, "m"), { seed: 1, rows: 9, ancestors: ["base"] });
  await assert.rejects(mix([a, larger], join(root, "o"), { force: true }), /is \[8,4\] in/);
  assert.equal(await Deno.stat(join(root, "o")).catch(() => undefined), undefined);
  await Deno.remove(root, { recursive: true });
});

Deno.test("chooseGreedily() keeps what does not lower the average's score", async () => {
  const worth = [0.7, 0.9, 0.8];
  const evaluate = (members: readonly number[]) =>
    Promise.resolve(members.includes(0) ? 0.5 : 0.92);
  const { members, score, steps } = await chooseGreedily(worth, evaluate);
  assert.deepEqual([members, score], [[1, 2], 0.92]);
  assert.deepEqual(steps.map(({ candidate, kept }) => [candidate, kept]), [
    [1, true],
    [2, true],
    [0, false],
  ]);
});
