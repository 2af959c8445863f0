/**
 * A model folder made from another by changing weights: streams tensor by tensor in the dtypes of the
 * original, copies all other files, appears whole or not at all.
 */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import { decodeToF32, f32ToBf16, f32ToF16 } from "@/tensor/half.ts";
import type { Checkpoint } from "@/weights/checkpoint.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import type { StoredTensor } from "@/weights/safetensors.ts";
import { encodeSafetensorsHeader, WEIGHTS_METADATA } from "@/weights/safetensors_writer.ts";
import { type Lineage, LINEAGE_FILE } from "./lineage.ts";

/** Files of a model beside its weights. */
export const modelFileNames = [
  "config.json",
  "preprocessor_config.json",
  "generation_config.json",
  "chat_template.jinja",
  "tokenizer.json",
  "tokenizer_config.json",
  "vocab.json",
  "merges.txt",
  "added_tokens.json",
  "special_tokens_map.json",
] as const;

type FloatDType = "F32" | "F16" | "BF16";

/** A tensor of a checkpoint as float32. */
export async function readFloats(
  checkpoint: Checkpoint,
  tensor: StoredTensor,
): Promise<Float32Array> {
  if (!["F32", "F16", "BF16"].includes(tensor.dtype)) {
    throw new OperatingError(
      "checkpoint_invalid",
      `Cannot read ${
        releasedName(tensor.name)
      } of dtype ${tensor.dtype}, expected F32, F16 or BF16`,
    );
  }
  const bytes = await checkpoint.read(tensor, 0, tensor.sizeBytes);
  return decodeToF32(bytes, tensor.dtype as FloatDType);
}

function encodeFloats(values: Float32Array, dtype: FloatDType): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(Float32Array.from(values).buffer);
  const encode = dtype === "BF16" ? f32ToBf16 : f32ToF16;
  return new Uint8Array(Uint16Array.from(values, encode).buffer);
}

export interface ModelFolderOptions {
  readonly from: { readonly folder: string; readonly checkpoint: Checkpoint };
  /** Folder to write; must not exist. */
  readonly out: string;
  /** New values of a tensor. */
  readonly valuesOf: (name: TensorName) => Promise<Float32Array>;
  readonly lineage: Lineage;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Throws OperatingError when the folder exists. */
export async function writeModelFolder(options: ModelFolderOptions): Promise<void> {
  const { from, out, valuesOf, lineage, onProgress } = options;
  if (await Deno.stat(out).catch(() => undefined)) {
    throw new OperatingError("invalid_request", `Cannot write the model: ${out} exists`);
  }
  const aside = `${out}.partial`;
  await Deno.remove(aside, { recursive: true }).catch(() => undefined);
  await Deno.mkdir(aside, { recursive: true });
  await copyOtherFiles(from.folder, aside);
  const tensors = [...from.checkpoint.tensors.entries()];
  const headers = tensors.map(([name, { dtype, shape }]) => ({
    name: releasedName(name),
    dtype,
    shape,
  }));
  using file = await Deno.open(join(aside, "model.safetensors"), { write: true, createNew: true });
  await writeAll(file, encodeSafetensorsHeader(headers, WEIGHTS_METADATA));
  for (const [i, [name, { dtype }]] of tensors.entries()) {
    await writeAll(file, encodeFloats(await valuesOf(name), dtype as FloatDType));
    onProgress?.(i + 1, tensors.length);
  }
  await file.sync();
  await Deno.writeTextFile(join(aside, LINEAGE_FILE), JSON.stringify(lineage, null, 2) + "\n");
  await Deno.rename(aside, out);
}

async function copyOtherFiles(from: string, to: string): Promise<void> {
  for await (const { name, isFile } of Deno.readDir(from)) {
    if (!isFile || /\.safetensors(\.index\.json)?$/.test(name) || name === LINEAGE_FILE) continue;
    await Deno.copyFile(join(from, name), join(to, name));
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}
