/**
 * Whole models as plain numbers: reads a folder's tensors, writes a folder from tensors. For what
 * makes a new model of an old one (`sparse_upcycling.ts`, `resolution_growth.ts`) or of nothing.
 * Models that are larger than memory do not pass here.
 */
import { join } from "node:path";
import { readConfig } from "@/model/open_checkpoint.ts";
import type { ModelConfig } from "@/model/config.ts";
import { writeModelConfig } from "@/model/config_writer.ts";
import { f32ToBf16 } from "@/tensor/half.ts";
import { Checkpoint } from "@/weights/checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { releasedName, type TensorName } from "@/weights/names.ts";
import { encodeSafetensors, WEIGHTS_METADATA } from "@/weights/safetensors_writer.ts";
import { modelFileNames, readFloats } from "../model_folder.ts";
import { writeSynced } from "../synced_file.ts";

export interface ModelTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface WholeModel {
  readonly config: ModelConfig;
  /** By canonical name. */
  readonly tensors: ReadonlyMap<TensorName, ModelTensor>;
  /** Texts of the folder's other files that belong to a model, by name. */
  readonly files: ReadonlyMap<string, string>;
}

const WEIGHTS = "model.safetensors";

/** Throws OperatingError("checkpoint_invalid") for a folder that is no model. */
export async function readModelFolder(folder: string): Promise<WholeModel> {
  const disk = diskFolder(folder);
  const config = await readConfig(disk);
  const checkpoint = await Checkpoint.open(disk);
  try {
    checkpoint.problems.throwIfAny(checkpoint.label);
    const tensors = new Map<TensorName, ModelTensor>();
    for (const [name, tensor] of checkpoint.tensors) {
      tensors.set(name, { shape: tensor.shape, values: await readFloats(checkpoint, tensor) });
    }
    const files = new Map<string, string>();
    for (const name of modelFileNames) {
      const text = await checkpoint.text(name);
      if (text !== undefined) files.set(name, text);
    }
    return { config, tensors, files };
  } finally {
    checkpoint.close();
  }
}

/** Writes every file aside and then renames it, the weights last; other files there stay. */
export async function writeModelFolder(
  folder: string,
  model: Pick<WholeModel, "tensors" | "files">,
  dtype: "F32" | "BF16",
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const [name, text] of model.files) {
    await replaceFile(join(folder, name), new TextEncoder().encode(text));
  }
  const tensors = [...model.tensors].map(([name, { shape, values }]) => ({
    name: releasedName(name),
    dtype,
    shape,
    bytes: dtype === "F32"
      ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      : new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer),
  }));
  tensors.sort((a, b) => a.name < b.name ? -1 : 1);
  await replaceFile(join(folder, WEIGHTS), encodeSafetensors(tensors, WEIGHTS_METADATA));
}

async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeSynced(`${path}.partial`, bytes);
  await Deno.rename(`${path}.partial`, path);
}

/** The model with another configuration, its files rewritten to say so. */
export function withConfig(model: WholeModel, config: ModelConfig): WholeModel {
  const [configName, preprocessorName] = ["config.json", "preprocessor_config.json"];
  const before = {
    config: model.files.get(configName) ?? "{}",
    preprocessor: model.files.get(preprocessorName) ?? "{}",
  };
  const written = writeModelConfig(config, { before });
  const files = new Map(model.files);
  files.set(configName, written.config);
  files.set(preprocessorName, written.preprocessor);
  return { ...model, config, files };
}
