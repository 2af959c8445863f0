import { deepEqual, ok } from "node:assert/strict";
import { optionalTest, probePath } from "../../tests/skip.ts";
import { distFolder, webBundle } from "./build.ts";
import { staleFiles } from "./bundle.ts";

const built = await probePath("src/web/dist", distFolder);

optionalTest(
  { name: "bundles for pages reach nothing of Deno and Node", needs: [built] },
  async () => {
    const names = (await Array.fromAsync(Deno.readDir(distFolder))).map(({ name }) => name).sort();
    deepEqual(names, ["codec_worker.js", "engine_worker.js", "flotilla.js", "kernel_worker.js"]);
    for (const name of names) {
      const text = await Deno.readTextFile(new URL(name, distFolder));
      deepEqual(text.match(/\bDeno\b|["']node:\w+|\brequire\(/g) ?? [], [], name);
      ok(!/^import\b/m.test(text), `${name} imports nothing`);
    }
  },
);

optionalTest({ name: "src/web/dist was built from its sources", needs: [built] }, async () => {
  deepEqual(await staleFiles(distFolder, await webBundle()), [], "run deno task build:web");
});
