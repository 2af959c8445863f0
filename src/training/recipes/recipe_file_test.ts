import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openRecipe } from "./recipe_file.ts";

const nano = fileURLToPath(new URL("../../../models/nano", import.meta.url));

Deno.test("openRecipe() opens every recipe of nano's editions and ablations", async () => {
  for (const [folder, pattern] of [["", /_edition.*\.json$/], ["ablations", /\.json$/]] as const) {
    const entries = await Array.fromAsync(Deno.readDir(join(nano, folder)));
    const names = entries.map(({ name }) => name).filter((name) => pattern.test(name));
    assert.ok(names.length > 10, `${names.length} recipes in ${join(nano, folder)}`);
    for (const name of names) {
      const recipe = await openRecipe(join(nano, folder, name));
      assert.ok(recipe.kind === "soup" || recipe.steps > 0, name);
    }
  }
});
