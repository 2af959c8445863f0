/** Every backend packs to the same files, so a folder packed by one is read by all. */
import { deepEqual } from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import { packModel } from "@/model/packing.ts";
import { precisionOf } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

const model = fileURLToPath(new URL("../fixtures/model/moe", import.meta.url));

/** SHA-256 of every file of the packed fixture, as its manifest tells. */
async function packedBy(options: BackendOptions, out: string): Promise<unknown> {
  const backend = await openBackend(options);
  try {
    // The tower in four bits, so that both formats have rows and columns beyond whole groups.
    const precision = precisionOf({ quantisation: "q4", vision: "q4" });
    const { manifest } = await packModel({ folder: diskFolder(model), out, backend, precision });
    return manifest.tensors;
  } finally {
    await backend.close();
  }
}

Deno.test("reference and WASM backends pack to the same bytes", async () => {
  const folder = await Deno.makeTempDir({ prefix: "flotilla-backends-" });
  try {
    const expected = await packedBy({ name: "reference" }, join(folder, "reference"));
    for (const variant of ["relaxed-threads", "simd"] as const) {
      const tensors = await packedBy({ name: "wasm", variant, threads: 2 }, join(folder, variant));
      deepEqual(tensors, expected, variant);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
