import assert from "node:assert/strict";
import { join } from "node:path";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { parseFlags } from "./flags.ts";
import { train } from "./train.ts";

const nano = new URL("../../models/nano", import.meta.url).pathname;

async function run(...args: string[]): Promise<number> {
  return await train(parseFlags("train", args));
}

Deno.test("train samples writes pictures and truth, the same for the same seed", async () => {
  const root = await Deno.makeTempDir();
  const make = (name: string) =>
    run("samples", "--task", "number=1", "--count", "3", "--side", "64", "--out", join(root, name));
  assert.equal(await make("a"), 0);
  await make("b");
  const text = await Deno.readTextFile(join(root, "a", "samples.jsonl"));
  assert.equal(text, await Deno.readTextFile(join(root, "b", "samples.jsonl")));
  for (const line of text.trim().split("\n")) {
    const { images, turns, truth } = JSON.parse(line);
    assert.equal(turns[0].answer, truth.facts.text);
    const [a, b] = ["a", "b"].map((name) => Deno.readFileSync(join(root, name, images[0])));
    assert.deepEqual(a, b);
  }
  await assert.rejects(make("a"), /exists/);
  await Deno.remove(root, { recursive: true });
});

Deno.test("train export takes mixture, rate and frozen parts from the recipe", async () => {
  const root = await Deno.makeTempDir();
  const out = join(root, "out");
  const more = ["--count", "2", "--side", "64", "--out", out];
  assert.equal(await run("export", "--to", "ms-swift", "--recipe", "vit_warmup", ...more), 0);
  const script = await Deno.readTextFile(join(out, "run.sh"));
  assert.match(script, /--freeze_vit true .*\n.*--freeze_aligner false .*\n.*--freeze_llm true /);
  assert.match(script, /--learning_rate 0\.001 /);
  const wrong = run("export", "--to", "llava", "--recipe", "nope", "--out", join(root, "x"));
  await assert.rejects(wrong, /Unknown recipe "nope"/);
  await Deno.remove(root, { recursive: true });
});

Deno.test("train soup of a model with itself is that model", async () => {
  const root = await Deno.makeTempDir();
  const out = join(root, "soup");
  assert.equal(await run("soup", "--model", nano, "--model", nano, "--out", out), 0);
  const tensors = async (folder: string) => {
    const checkpoint = await Checkpoint.open(diskFolder(folder));
    const bytes = new Map<string, Uint8Array>();
    for (const [name, tensor] of checkpoint.tensors) {
      bytes.set(name, await checkpoint.read(tensor, 0, tensor.sizeBytes));
    }
    checkpoint.close();
    return bytes;
  };
  assert.deepEqual(await tensors(out), await tensors(nano));
  await assert.rejects(run("soup", "--model", nano, "--out", out), /given once/);
  await Deno.remove(root, { recursive: true });
});

Deno.test("train grow writes a larger model, and says what it needs", async () => {
  const root = await Deno.makeTempDir();
  const out = join(root, "grown");
  const sizes = ["--vision-layers", "6", "--decoder-mlp", "352"];
  assert.equal(await run("grow", "--model", nano, "--out", out, ...sizes), 0);
  const config = JSON.parse(await Deno.readTextFile(join(out, "config.json")));
  assert.equal(config.vision_config.num_hidden_layers, 6);
  assert.equal(config.llm_config.intermediate_size, 352);
  assert.equal(config.llm_config.num_hidden_layers, 4);
  await assert.rejects(run("grow", "--model", nano, "--out", out), /Say what grows/);
  await assert.rejects(run("grow", "--out", out, ...sizes), /--model is needed once/);
  await Deno.remove(root, { recursive: true });
});

Deno.test("train says what it can do", async () => {
  await assert.rejects(run(), /RECIPE.json, a shipped one, or one of recipes/);
  await assert.rejects(run("bake"), /Unknown recipe "bake", expected one of vit_warmup/);
  await assert.rejects(run("bake.json"), /Cannot read the recipe bake.json/);
  await assert.rejects(run("sft_basic"), /--model is missing/);
  await assert.rejects(run("model_soup", "--model", nano), /--evaluate is missing, model_soup/);
  await assert.rejects(run("samples"), /--out is missing/);
});
