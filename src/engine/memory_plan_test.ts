import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { openBackend } from "@/kernels/open.ts";
import { limits } from "@/limits.ts";
import { memoryNeed } from "@/model/memory_need.ts";
import { loadModel } from "@/model/load.ts";
import { packModel } from "@/model/packing.ts";
import { precisionOf, quantisations } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { kvBytesDefault, planMemory, planText } from "./memory_plan.ts";

const GIB = 2 ** 30;
const folderOf = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const nano = folderOf("models/nano");
const shape = (name: string) => folderOf(`benchmarks/shapes/${name}`);

Deno.test("memoryNeed() counts the bytes that loading takes, in every format", async () => {
  for (const quantisation of quantisations) {
    const folder = diskFolder(nano);
    const need = await memoryNeed({ folder, quantisation });
    const backend = await openBackend({ name: "wasm", threads: 1 });
    const { model } = await loadModel({ folder, backend, quantisation });
    const ropeBytes = 4 * model.contextTokensMax * model.kvShape.headWidth;
    assert.equal(need.weightBytes + ropeBytes, backend.usedBytes(), quantisation);
    assert.equal(need.scratchBytes, await model.scratchBytes());
    assert.ok(need.scratchBytes > 0);
    await backend.close();
  }
});

Deno.test("memoryNeed() counts a packed folder like what it was packed from", async () => {
  const out = await Deno.makeTempDir();
  try {
    const precision = precisionOf({ quantisation: "q4" });
    const backend = await openBackend({ name: "wasm", threads: 1 });
    await packModel({ folder: diskFolder(nano), out, backend, precision });
    await backend.close();
    const stored = await memoryNeed({ folder: diskFolder(nano), ...precision });
    assert.deepEqual(await memoryNeed({ folder: diskFolder(out) }), stored);
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});

Deno.test("planMemory() tells which shapes need addresses of 64 bits", async () => {
  const plan = (name: string, contextTokens: number) =>
    planMemory({
      folder: diskFolder(shape(name)),
      synthetic: true,
      quantisation: "q4",
      contextTokens,
    });
  const small = await plan("sail-vl2-2b", 4096);
  assert.ok(small.totalBytes < limits.narrowMemoryBytesMax, planText(small));
  const large = await plan("sail-vl2-8b", 4096);
  assert.ok(large.weightBytes > 4.5 * GIB && large.weightBytes < 6 * GIB, planText(large));
  assert.ok(large.totalBytes > limits.narrowMemoryBytesMax);
  assert.ok(large.totalBytes < limits.kernelMemory64PagesMax * 65536);
  const longer = await plan("sail-vl2-8b", 8192);
  assert.equal(longer.weightBytes, large.weightBytes);
  // Keys and values of 36 layers of 8 heads of 128 halves.
  assert.equal(longer.kvBytes - large.kvBytes, 4096 * 2 * 36 * 8 * 128 * 2);
});

Deno.test("planMemory() uses the KV size and format that are asked for", async () => {
  const options = { folder: diskFolder(nano), contextTokens: 1024 };
  assert.equal((await planMemory({ ...options, kvBytesMax: 12_345_678 })).kvBytes, 12_345_678);
  const f32 = await planMemory({ ...options });
  const f16 = await planMemory({ ...options, kvFormat: "f16" });
  assert.equal(f32.kvBytes, 2 * f16.kvBytes);
});

Deno.test("kvBytesDefault() holds one context at least, and several short ones up to its bound", () => {
  const kvShape = { layers: 2, kvHeads: 1, headWidth: 64 };
  const tokenBytes = 2 * 2 * 64 * 4;
  const short = kvBytesDefault({ kvShape, contextTokensMax: 1024 }, "f32");
  assert.equal(short, 16 * 1040 * tokenBytes);
  const long = kvBytesDefault({ kvShape, contextTokensMax: 2 ** 20 }, "f32");
  assert.equal(long, (2 ** 20 + 16) * tokenBytes);
});

Deno.test("planText() names the parts", () => {
  const plan = { weightBytes: 5 * GIB, kvBytes: GIB / 2, workBytes: GIB, totalBytes: 6.5 * GIB };
  assert.equal(planText(plan), "6.5 GiB (weights 5.0, KV cache 0.5, work 1.0)");
});
