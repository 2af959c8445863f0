import assert from "node:assert/strict";
import { join } from "node:path";
import { LINEAGE_FILE } from "./lineage.ts";
import { originOf, weightsId, writeLineage } from "./run_lineage.ts";
import { checkSoup, openIngredient } from "./soup.ts";

const nano = new URL("../../models/nano", import.meta.url).pathname;
const run = { recipe: "sft_basic", seed: 31 };

/** A copy of nano with one more byte in its file of weights, as a run from `parent` leaves it. */
async function trained(parent: string, folder: string): Promise<void> {
  await Deno.mkdir(folder);
  for await (const { name, isFile } of Deno.readDir(parent)) {
    if (isFile) await Deno.copyFile(join(parent, name), join(folder, name));
  }
  const path = join(folder, "model.safetensors");
  const weights = await Deno.readFile(path);
  const last = weights.length - 1;
  weights[last] = weights[last]! ^ 1;
  await Deno.writeFile(path, weights);
  await writeLineage(folder, await originOf(parent, run), { weights, steps: 5 });
}

Deno.test("a run's weights descend from its model, and a next run's from both", async () => {
  const root = await Deno.makeTempDir();
  const [first, second, rival] = ["first", "second", "rival"].map((name) => join(root, name));
  await trained(nano, first!);
  await trained(first!, second!);
  const base = await originOf(nano, run);
  const { ancestors } = await originOf(second!, run);
  const ids = [await weightsId(first!), await weightsId(second!)];
  assert.deepEqual(ancestors, [...base.ancestors, ...ids]);
  const stored = JSON.parse(await Deno.readTextFile(join(first!, LINEAGE_FILE)));
  assert.deepEqual(stored.run, { model: "nano", ...run, steps: 5 });

  const doubts = async (...folders: string[]) => {
    const models = await Promise.all(folders.map(openIngredient));
    const { doubts } = await checkSoup(models);
    for (const { checkpoint } of models) checkpoint.close();
    return doubts;
  };
  assert.deepEqual(await doubts(first!, second!), []);
  await trained(nano, rival!);
  const stranger = { ancestors: ["sha256:0", "sha256:1"] };
  await Deno.writeTextFile(join(rival!, LINEAGE_FILE), JSON.stringify(stranger));
  assert.match((await doubts(second!, rival!))[0]!, /share no ancestor/);
  await Deno.remove(root, { recursive: true });
});
