/** Committed build results match their sources, even where the build tools are missing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sha256Hex, sourceHash } from "../../kernels-rs/source_hash.ts";
import { optionalTest, probePath } from "../skip.ts";
import { filesUnder, readText, repositoryRoot } from "./source_files.ts";

interface Manifest {
  readonly sourceHash: string;
  /** The compute kernels: one module per variant. */
  readonly modules?: Readonly<Record<string, { readonly sha256: string }>>;
  /** The codec: its only module. */
  readonly bytesSha256?: string;
}

interface Generated {
  readonly crate: string;
  readonly extraFiles: readonly string[];
  readonly manifest: string;
  readonly build: string;
  /** SHA-256 by path of the modules that the manifest describes. */
  moduleHashes(manifest: Manifest): Readonly<Record<string, string>>;
}

const crates: readonly Generated[] = [
  {
    crate: "codec",
    extraFiles: [],
    manifest: "wasm/codec/manifest.json",
    build: "deno run --allow-all kernels-rs/build_codec.ts",
    moduleHashes: ({ bytesSha256 }) => ({ "wasm/codec/codec_bg.wasm": bytesSha256! }),
  },
  {
    crate: "compute",
    extraFiles: ["../Cargo.toml", "../Cargo.lock"],
    manifest: "wasm/manifest.json",
    build: "deno task build:wasm",
    moduleHashes: ({ modules }) =>
      Object.fromEntries(
        Object.entries(modules!).map(([name, { sha256 }]) => [
          `wasm/${name}/compute_bg.wasm`,
          sha256,
        ]),
      ),
  },
];

const probes = await Promise.all(
  crates.map(({ manifest }) => probePath(manifest, join(repositoryRoot, manifest))),
);

for (const [index, generated] of crates.entries()) {
  const { crate, extraFiles, manifest: path, build, moduleHashes } = generated;
  const needs = [probes[index]!];
  optionalTest(
    { name: `${path} describes kernels-rs/${crate} and its modules`, needs },
    async () => {
      const manifest = JSON.parse(readText(path)) as Manifest;
      const actual = await sourceHash(join(repositoryRoot, "kernels-rs", crate), extraFiles);
      assert.equal(manifest.sourceHash, actual, `stale: run ${build}`);
      const recorded = moduleHashes(manifest);
      const files = await Promise.all(
        Object.keys(recorded).map(async (module) => {
          return [module, sha256Hex(await Deno.readFile(join(repositoryRoot, module)))] as const;
        }),
      );
      assert.deepEqual(Object.fromEntries(files), recorded, `not the recorded bytes: run ${build}`);
    },
  );
}

optionalTest({ name: "every committed WebAssembly module has a manifest", needs: probes }, () => {
  const described = crates.flatMap(({ manifest, moduleHashes }) => {
    return Object.keys(moduleHashes(JSON.parse(readText(manifest)) as Manifest));
  });
  const found = filesUnder("wasm").filter((path) => path.endsWith(".wasm"));
  assert.deepEqual(found.sort(), described.sort());
});

const pages = [
  {
    name: "playground",
    bundle: async () => await (await import("@/playground/build.ts")).playgroundBundle(),
  },
  {
    name: "dashboard",
    bundle: async () => await (await import("@/dashboard/build.ts")).dashboardBundle(),
  },
];
for (const { name, bundle } of pages) {
  const script = `src/${name}/dist/app.js`;
  const needs = [await probePath(script, join(repositoryRoot, script))];
  optionalTest({ name: `src/${name}/dist was built from its sources`, needs }, async () => {
    const { staleFiles } = await import("@/web/bundle.ts");
    const folder = pathToFileURL(join(repositoryRoot, `src/${name}/dist/`));
    const stale = await staleFiles(folder, await bundle());
    assert.deepEqual(stale, [], `run deno task build:${name}`);
  });
}
