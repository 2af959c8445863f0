/**
 * What quantised linears cost the vision tower: cosines with the same tower in float32, layer by
 * layer, on the shipped weights and on drawn weights of the released width.
 */
import { ok } from "node:assert/strict";
import { nanoFolder } from "@/cli/site.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import type { ModelConfig } from "@/model/config.ts";
import { loadModel } from "@/model/load.ts";
import { readConfig } from "@/model/open_checkpoint.ts";
import { impliedTensors } from "@/model/parameters.ts";
import { seededRandom } from "@/random.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { releasedName } from "@/weights/names.ts";
import type { Quantisation } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type FileFolder, memoryFolder } from "@/weights/source.ts";
import { syntheticTensor } from "@/weights/synthetic.ts";

/** The released 2B's tower with fewer patches, beside a decoder of no weight. */
async function narrowedRelease(): Promise<FileFolder> {
  const path = new URL("../../benchmarks/shapes/sail-vl2-2b/config.json", import.meta.url);
  const config = JSON.parse(await Deno.readTextFile(path));
  config.force_image_size = 224;
  Object.assign(config.vision_config, { image_size: 224 });
  Object.assign(config.llm_config, {
    num_hidden_layers: 1,
    intermediate_size: 64,
    vocab_size: 1000,
  });
  const files = new Map([["config.json", new TextEncoder().encode(JSON.stringify(config))]]);
  const bare = memoryFolder("2B tower", files);
  files.set("model.safetensors", await drawnTensors(await readConfig(bare)));
  return bare;
}

/** A safetensors file of drawn weights, which every precision reads alike. */
async function drawnTensors(config: ModelConfig): Promise<Uint8Array<ArrayBuffer>> {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, shape] of await impliedTensors(config)) {
    const { source, sizeBytes } = syntheticTensor(name, shape);
    parts.push(await source.read(0, sizeBytes));
    header[releasedName(name)] = {
      dtype: "BF16",
      shape,
      data_offsets: [end, end += sizeBytes],
    };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let at = 8 + text.length;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

/** A quarter each of noise, one colour, a ramp and stripes like text. */
function picture(side: number): Uint8Array {
  const random = seededRandom(5);
  return Uint8Array.from({ length: side * side * 3 }, (_, i) => {
    const [y, x, channel] = [Math.floor(i / (3 * side)), Math.floor(i / 3) % side, i % 3];
    if (y < side / 2) return x < side / 2 ? random() * 256 : 200 + 20 * channel;
    if (x < side / 2) return (255 * y) / side;
    return y % 7 < 4 && random() < 0.5 ? 10 : 250;
  });
}

/** Outputs of every stage by its name, "adapter" being the visual tokens. */
async function stages(
  backend: Backend,
  folder: FileFolder,
  vision: Quantisation,
): Promise<ReadonlyMap<string, Float32Array>> {
  const { model } = await loadModel({ folder, backend, quantisation: vision, vision });
  const side = model.tileSize;
  const pixels = backend.allocate("u8", [1, side, side, 3]);
  backend.write(pixels, picture(side));
  const out = backend.allocate("f32", [model.tokensPerTile, model.hiddenWidth]);
  const kept = new Map<string, Tensor>();
  model.tap = (name, tensor) => {
    if (!name.startsWith("vision.layer.")) return;
    const copy = backend.allocate("f32", tensor.shape);
    const [rowCount, width] = tensor.shape as [number, number];
    backend.ops.copyRows({ source: tensor, out: copy, width, rowCount });
    kept.set(name, copy);
  };
  await model.encodeTiles(pixels, 1, out);
  kept.set("adapter", out);
  const values = new Map<string, Float32Array>();
  for (const [name, tensor] of kept) values.set(name, await backend.read(tensor) as Float32Array);
  return values;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (const [i, x] of a.entries()) {
    ab += x * b[i]!;
    aa += x * x;
    bb += b[i]! ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

async function checkTower(t: Deno.TestContext, folder: FileFolder): Promise<void> {
  const floors = { q8: { layer: 0.9995, adapter: 0.9995 }, q4: { layer: 0.99, adapter: 0.99 } };
  const run = async (vision: Quantisation) => {
    const backend = await openWasmBackend({ threads: 2 });
    try {
      return await stages(backend, folder, vision);
    } finally {
      await backend.close();
    }
  };
  const exact = await run("none");
  for (const [vision, floor] of Object.entries(floors)) {
    await t.step(vision, async () => {
      const found = await run(vision as Quantisation);
      for (const [name, values] of exact) {
        const similarity = cosine(values, found.get(name)!);
        const least = name === "adapter" ? floor.adapter : floor.layer;
        ok(similarity >= least, `${name}: cosine ${similarity}, expected ${least}`);
      }
    });
  }
}

Deno.test("a quantised tower keeps the shipped model's features", async (t) => {
  await checkTower(t, diskFolder(nanoFolder));
});

Deno.test("a quantised tower of the released width and depth keeps drawn features", async (t) => {
  await checkTower(t, await narrowedRelease());
});
