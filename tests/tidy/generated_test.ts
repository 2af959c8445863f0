/** Committed build results match their sources, even where the build tools are missing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { sourceHash } from "../../kernels-rs/source_hash.ts";
import { optionalTest, probePath } from "../skip.ts";
import { readText, repositoryRoot } from "./source_files.ts";

interface Generated {
  readonly crate: string;
  readonly manifest: string;
  readonly build: string;
}

const modules: readonly Generated[] = [
  { crate: "codec", manifest: "wasm/codec/manifest.json", build: "kernels-rs/build_codec.ts" },
  { crate: "compute", manifest: "wasm/manifest.json", build: "kernels-rs/build.ts" },
];

for (const { crate, manifest, build } of modules) {
  const needs = [await probePath(manifest, join(repositoryRoot, manifest))];
  optionalTest({ name: `${manifest} was built from kernels-rs/${crate}`, needs }, async () => {
    const { sourceHash: recorded } = JSON.parse(readText(manifest)) as { sourceHash: string };
    const actual = await sourceHash(join(repositoryRoot, "kernels-rs", crate));
    assert.equal(recorded, actual, `stale: run deno run --allow-all ${build}`);
  });
}

const page = "src/playground/dist/app.js";
const needs = [await probePath(page, join(repositoryRoot, page))];
optionalTest({ name: "src/playground/dist was built from its sources", needs }, async () => {
  const { staleFiles } = await import("@/playground/build.ts");
  assert.deepEqual(await staleFiles(), [], "run deno task build:playground");
});
