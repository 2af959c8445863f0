import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { readSafetensorsHeader } from "@/weights/safetensors.ts";
import { encodeSafetensors, type TensorToWrite } from "@/weights/safetensors_writer.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { memoryFolder } from "@/weights/source.ts";
import { shortPromptLogits } from "./_short_prompt.ts";
import { loadModel } from "./load.ts";

const fixtures = new URL("../../tests/fixtures/model/", import.meta.url).pathname;

/** All tensors of a fixture checkpoint, by stored name. */
async function readTensors(name: string): Promise<Map<string, TensorToWrite>> {
  const folder = diskFolder(`${fixtures}${name}`);
  const tensors = new Map<string, TensorToWrite>();
  for (const part of (await folder.names()).filter((file) => file.endsWith(".safetensors"))) {
    const source = await folder.open(part);
    for (const tensor of (await readSafetensorsHeader(source)).tensors) {
      const bytes = await source.read(tensor.offset, tensor.sizeBytes);
      tensors.set(tensor.name, {
        name: tensor.name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes,
      });
    }
    source.close();
  }
  return tensors;
}

/** A one-file folder in memory with the fixture's JSON files. */
async function folderOf(name: string, tensors: Iterable<TensorToWrite>) {
  const files = new Map<string, Uint8Array>();
  for (const file of ["config.json", "preprocessor_config.json", "generation_config.json"]) {
    files.set(file, await Deno.readFile(`${fixtures}${name}/${file}`));
  }
  files.set("model.safetensors", encodeSafetensors([...tensors]));
  return { files, folder: memoryFolder("test", files) };
}

async function loadFailure(folder: ReturnType<typeof memoryFolder>): Promise<string> {
  let message = "";
  await rejects(
    loadModel({ folder, backend: openReferenceBackend(), quantisation: "none" }),
    (error) => {
      ok(error instanceof OperatingError, String(error));
      equal(error.code, "checkpoint_invalid");
      message = error.message;
      return true;
    },
  );
  return message;
}

Deno.test("loadModel() accepts re-saved names and prefixes", async () => {
  const tensors = await readTensors("dense");
  const released = await folderOf("dense", tensors.values());
  const renamed = [...tensors.values()].map((tensor) => ({
    ...tensor,
    name: tensor.name.startsWith("language_model.model.")
      ? tensor.name.replace("language_model.model.", "model.language_model.")
      : tensor.name.startsWith("language_model.")
      ? tensor.name.replace("language_model.", "")
      : `model.${tensor.name}`,
  }));
  const resaved = await folderOf("dense", renamed);
  deepEqual(await shortPromptLogits(resaved.folder), await shortPromptLogits(released.folder));
});

Deno.test("loadModel() accepts fused three-dimensional experts", async () => {
  const tensors = await readTensors("moe");
  const released = await folderOf("moe", tensors.values());
  const fused = new Map([...tensors].filter(([name]) => !name.includes(".experts.")));
  const stack = (names: string[]) => {
    const parts = names.map((name) => tensors.get(name)!.bytes);
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
    parts.reduce((at, part) => (bytes.set(part, at), at + part.byteLength), 0);
    return bytes;
  };
  for (let layer = 0; layer < 4; layer++) {
    const at = `language_model.model.layers.${layer}.mlp.experts`;
    const ids = [...Array(8).keys()];
    const gateUp = ids.flatMap((
      e,
    ) => [`${at}.${e}.gate_proj.weight`, `${at}.${e}.up_proj.weight`]);
    const [width, hidden] = tensors.get(`${at}.0.gate_proj.weight`)!.shape as [number, number];
    fused.set(`${at}.gate_up_proj`, {
      name: `${at}.gate_up_proj`,
      dtype: "BF16",
      shape: [8, 2 * width, hidden],
      bytes: stack(gateUp),
    });
    fused.set(`${at}.down_proj`, {
      name: `${at}.down_proj`,
      dtype: "BF16",
      shape: [8, hidden, width],
      bytes: stack(ids.map((e) => `${at}.${e}.down_proj.weight`)),
    });
  }
  const resaved = await folderOf("moe", fused.values());
  deepEqual(await shortPromptLogits(resaved.folder), await shortPromptLogits(released.folder));
});

Deno.test("loadModel() lists missing, unexpected and mis-shaped tensors in one error", async () => {
  const tensors = await readTensors("dense");
  tensors.delete("mlp1.1.bias");
  const name = "language_model.model.norm.weight";
  tensors.set(name, { name, dtype: "BF16", shape: [3], bytes: new Uint8Array(6) });
  tensors.set("extra.weight", {
    name: "extra.weight",
    dtype: "F32",
    shape: [1],
    bytes: new Uint8Array(4),
  });
  const layer = "language_model.model.layers.9.input_layernorm.weight";
  tensors.set(layer, { name: layer, dtype: "BF16", shape: [96], bytes: new Uint8Array(192) });
  const message = await loadFailure((await folderOf("dense", tensors.values())).folder);
  match(message, /missing tensors \(1\):\n {2}mlp1\.1\.bias \[96\]/);
  match(message, /mis-shaped tensors \(1\):\n {2}language_model\.model\.norm\.weight is \[3\]/);
  match(message, /unexpected tensors \(2\)/);
  match(message, /extra\.weight F32 \[1\]/);
  match(message, /layers\.9\.input_layernorm/);
});

Deno.test("loadModel() refuses truncated files and bad headers without a crash", async () => {
  const { files } = await folderOf("dense", (await readTensors("dense")).values());
  const whole = files.get("model.safetensors")!;
  const withModel = (bytes: Uint8Array) =>
    memoryFolder("test", new Map([...files, ["model.safetensors", bytes]]));
  for (const length of [0, 4, 8, 100, 5000, whole.byteLength - 1]) {
    match(await loadFailure(withModel(whole.slice(0, length))), /bad safetensors files/);
  }
  const hugeHeader = whole.slice();
  new DataView(hugeHeader.buffer).setBigUint64(0, 1n << 60n, true);
  match(await loadFailure(withModel(hugeHeader)), /header of \d+ bytes exceeds/);
  const noJson = whole.slice();
  noJson[9] = 0;
  match(await loadFailure(withModel(noJson)), /header is not JSON/);
});

Deno.test("loadModel() names the key of a wrong configuration", async () => {
  const { files } = await folderOf("dense", (await readTensors("dense")).values());
  const config = JSON.parse(new TextDecoder().decode(files.get("config.json")));
  const withConfig = (change: (json: Record<string, Record<string, unknown>>) => void) => {
    const copy = structuredClone(config);
    change(copy);
    const bytes = new TextEncoder().encode(JSON.stringify(copy));
    return memoryFolder("test", new Map([...files, ["config.json", bytes]]));
  };
  match(
    await loadFailure(withConfig((json) => json.llm_config!.hidden_size = -1)),
    /llm_config\.hidden_size is -1, expected a positive integer/,
  );
  match(
    await loadFailure(withConfig((json) => json.llm_config!.rope_scaling = { type: "yarn" })),
    /rope_scaling/,
  );
  match(
    await loadFailure(withConfig((json) => delete json.vision_config)),
    /vision_config is missing, expected an object/,
  );
  const noConfig = new Map(files);
  noConfig.delete("config.json");
  match(await loadFailure(memoryFolder("test", noConfig)), /config\.json is missing/);
  match(await loadFailure(diskFolder("/nowhere/at/all")), /no such folder/);
});

Deno.test("loadModel() draws synthetic weights from the configuration alone", async () => {
  for (const name of ["dense", "moe", "video"]) {
    const { files } = await folderOf(name, []);
    files.delete("model.safetensors");
    const load = () =>
      loadModel({
        folder: memoryFolder("test", files),
        backend: openReferenceBackend(),
        quantisation: "none",
        synthetic: true,
      });
    const [first, second] = [await load(), await load()];
    equal(first.parameterCount, second.parameterCount);
    ok(first.parameterCount > 100_000);
    equal(first.model.vocabularySize, first.config.decoder.vocabularySize);
  }
});
