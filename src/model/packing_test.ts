import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { precisionOf } from "@/weights/precision.ts";
import { hashOf } from "@/weights/file_hash.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type FileFolder, memoryFolder } from "@/weights/source.ts";
import { shortPromptLogits } from "./_short_prompt.ts";
import { loadModel } from "./load.ts";
import { packModel, type PackOptions, type PackResult } from "./packing.ts";

const fixtures = new URL("../../tests/fixtures/model/", import.meta.url).pathname;

const PART_BYTES = 400_000;

/** Packs into a temporary folder and hands it to `run`. */
async function packed(
  options: Pick<PackOptions, "folder" | "precision"> & { synthetic?: boolean },
  run: (folder: FileFolder, result: PackResult) => Promise<void>,
): Promise<void> {
  const out = await Deno.makeTempDir({ prefix: "flotilla-pack-" });
  const backend = openReferenceBackend();
  try {
    await run(
      diskFolder(out),
      await packModel({ ...options, out, backend, partBytes: PART_BYTES }),
    );
    equal(backend.usedBytes(), 0);
  } finally {
    await backend.close();
    await Deno.remove(out, { recursive: true });
  }
}

/** Every quantised weight has the error of its format; nothing else has any. */
function expectErrors({ weights, manifest }: PackResult): void {
  for (const { name, format, relativeError } of weights) {
    const [least, most] = { q4: [0.05, 0.12], q8: [0.004, 0.015] }[format as string] ?? [0, 0];
    ok(relativeError >= least! && relativeError <= most!, `${name} ${format} ${relativeError}`);
    equal(manifest.tensors[name]!.relativeError, relativeError);
  }
}

for (const name of ["dense", "moe"]) {
  for (const options of [{ quantisation: "q8" }, { quantisation: "q4" }] as const) {
    const { quantisation } = options;
    Deno.test(`packModel() of ${name} in ${quantisation} loads to the same bits`, async () => {
      const folder = diskFolder(`${fixtures}${name}`);
      await packed({ folder, precision: precisionOf(options) }, async (out, result) => {
        ok(result.parts > 1);
        expectErrors(result);
        deepEqual(await shortPromptLogits(out), await shortPromptLogits(folder, options));
        deepEqual(await shortPromptLogits(out, options), await shortPromptLogits(out));
      });
    });
  }
}

Deno.test("packModel() packs drawn weights to what is drawn when loading", async () => {
  const files = new Map<string, Uint8Array>();
  files.set("config.json", await Deno.readFile(`${fixtures}dense/config.json`));
  const folder = memoryFolder("shape", files);
  const drawn = { synthetic: true, quantisation: "q4" } as const;
  await packed({ folder, precision: precisionOf(drawn), synthetic: true }, async (out) => {
    deepEqual(await shortPromptLogits(out), await shortPromptLogits(folder, drawn));
  });
});

Deno.test("packModel() does nothing when the folder is there, and refuses another", async () => {
  const folder = diskFolder(`${fixtures}video`);
  const precision = precisionOf({ quantisation: "q8" });
  await packed({ folder, precision }, async (out, { parts }) => {
    const backend = openReferenceBackend();
    const again = { folder, out: out.label, backend, partBytes: PART_BYTES };
    equal((await packModel({ ...again, precision })).partsKept, parts);
    const other = packModel({ ...again, precision: precisionOf({ quantisation: "q4" }) });
    await rejects(other, /holds another packed model/);
    const twice = packModel({ ...again, folder: out, out: `${out.label}-again`, precision });
    await rejects(twice, /it is packed already/);
    for (const quantisation of ["q4", "none"] as const) {
      const wish = loadModel({ folder: out, backend, quantisation });
      await rejects(wish, new RegExp(`as ${quantisation}.*: it is packed as q8`));
    }
  });
});

Deno.test("loadModel() tells what a packed folder lacks for its configuration", async () => {
  const folder = diskFolder(`${fixtures}dense`);
  await packed({ folder, precision: precisionOf({ quantisation: "q8" }) }, async (out) => {
    const path = `${out.label}/config.json`;
    const text = await Deno.readTextFile(path);
    const config = JSON.parse(text);
    config.llm_config.num_hidden_layers += 1;
    // Padded, so that only the meaning is wrong and not the size.
    const changed = JSON.stringify(config);
    await Deno.writeTextFile(path, changed.padEnd(text.length));
    const backend = openReferenceBackend();
    await rejects(loadModel({ folder: out, backend }), (error: Error) => {
      ok(
        /missing tensors \(11\):\n {2}decoder\.4\.attentionNorm/.test(error.message),
        error.message,
      );
      return true;
    });
    await rejects(loadModel({ folder: out, backend, verify: hashOf }), /changed since/);
  });
});

Deno.test("loadModel() says so when a packing was interrupted", async () => {
  const files = new Map([["packing.json", new TextEncoder().encode("{}")]]);
  const load = loadModel({ folder: memoryFolder("out", files), backend: openReferenceBackend() });
  await rejects(load, /its packing was interrupted; run the same quantize again/);
});
