/**
 * Low-rank additions as a folder in the layout of Hugging Face's PEFT: `adapter_config.json` and
 * `adapter_model.safetensors`. Written beside checkpoints, read to go on and to merge.
 */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import { canonicalName, releasedName, type TensorName } from "@/weights/names.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { readSafetensorsHeader } from "@/weights/safetensors.ts";
import {
  encodeSafetensors,
  type TensorToWrite,
  WEIGHTS_METADATA,
} from "@/weights/safetensors_writer.ts";
import type { LowRankModel } from "./low_rank.ts";
import { readStore } from "./parameter_values.ts";
import { writeSynced } from "./synced_file.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapter_model.safetensors";
const PREFIX = "base_model.model.";

/** The addition to one matrix as it lies in a file. */
export interface StoredPair {
  /** [rank, K] */
  readonly down: Float32Array;
  /** [N, rank] */
  readonly up: Float32Array;
  readonly rank: number;
}

export interface StoredAdapter {
  /** By canonical name of the matrix. */
  readonly pairs: ReadonlyMap<TensorName, StoredPair>;
  readonly scale: number;
}

/** PEFT's name of a matrix's addition. */
function storedName(name: TensorName, side: "A" | "B"): string {
  return `${PREFIX}${releasedName(name).replace(/\.weight$/, "")}.lora_${side}.weight`;
}

/** Writes a model's additions in float32. Waits for recorded ops. */
export async function writeAdapter(
  folder: string,
  { backend, model, base }: { backend: Backend; model: LowRankModel; base: string },
): Promise<void> {
  const { lora, pairs } = model;
  const tensors: TensorToWrite[] = [];
  for (const { base: { name, store }, down, up } of pairs) {
    if (store.kind !== "matrix") continue;
    const { rows, columns } = store.matrix;
    const sides = [["A", down, [lora.rank, columns]], ["B", up, [rows, lora.rank]]] as const;
    for (const [side, parameter, shape] of sides) {
      const values = await readStore(backend, parameter.store);
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      tensors.push({ name: storedName(name, side), dtype: "F32", shape, bytes });
    }
  }
  const modules = new Set(pairs.map(({ base: { name } }) => releasedName(name).split(".").at(-2)));
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: base,
    r: lora.rank,
    lora_alpha: lora.alpha,
    lora_dropout: 0,
    bias: "none",
    fan_in_fan_out: false,
    use_rslora: false,
    inference_mode: true,
    // A pattern, so that no module of the vision tower has the same name.
    target_modules: `.*layers\\.\\d+\\.(self_attn|mlp)\\.(${[...modules].join("|")})`,
    modules_to_save: null,
  };
  await Deno.mkdir(folder, { recursive: true });
  await writeSynced(join(folder, WEIGHTS), encodeSafetensors(tensors, WEIGHTS_METADATA));
  const text = JSON.stringify(config, null, 2) + "\n";
  await writeSynced(join(folder, CONFIG), new TextEncoder().encode(text));
}

/** Reads an adapter folder; throws OperatingError for kinds of additions that are not plain LoRA. */
export async function readAdapter(folder: string): Promise<StoredAdapter> {
  const refuse = (problem: string, cause?: unknown) =>
    new OperatingError("checkpoint_invalid", `Cannot use adapter ${folder}: ${problem}`, { cause });
  let config: Record<string, unknown>;
  try {
    config = JSON.parse(await Deno.readTextFile(join(folder, CONFIG)));
  } catch (cause) {
    throw refuse(`${CONFIG} cannot be read`, cause);
  }
  const { r, lora_alpha: alpha, use_rslora: isStable } = config;
  if (config["peft_type"] !== "LORA") throw refuse("its peft_type is not LORA");
  if (typeof r !== "number" || typeof alpha !== "number") {
    throw refuse("r or lora_alpha is missing");
  }
  for (const key of ["use_dora", "fan_in_fan_out"]) if (config[key]) throw refuse(`it uses ${key}`);
  for (const key of ["rank_pattern", "alpha_pattern"]) {
    if (Object.keys(config[key] ?? {}).length > 0) throw refuse(`it uses ${key}`);
  }
  const sides = await readSides(folder, refuse);
  const pairs = new Map<TensorName, StoredPair>();
  for (const [name, { A: down, B: up }] of sides) {
    if (!down || !up) throw refuse(`half of the addition to ${releasedName(name)} is missing`);
    pairs.set(name, { down, up, rank: r });
  }
  if (pairs.size === 0) throw refuse("it adds to nothing");
  return { pairs, scale: alpha / (isStable ? Math.sqrt(r) : r) };
}

type Sides = { A?: Float32Array; B?: Float32Array };

async function readSides(
  folder: string,
  refuse: (problem: string) => OperatingError,
): Promise<Map<TensorName, Sides>> {
  const source = await diskFolder(folder).open(WEIGHTS);
  try {
    const header = await readSafetensorsHeader(source);
    if (header.problems.length > 0) throw refuse(header.problems.join("; "));
    const sides = new Map<TensorName, Sides>();
    for (const { name, dtype, offset, sizeBytes } of header.tensors) {
      const match = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(name);
      const base = match && canonicalName(`${match[1]}.weight`);
      if (!base) throw refuse(`it adds to ${name}, which no part of a model is called`);
      if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") {
        throw refuse(`${name} has dtype ${dtype}`);
      }
      const pair = sides.get(base) ?? {};
      pair[match[2] as "A" | "B"] = decodeToF32(await source.read(offset, sizeBytes), dtype);
      sides.set(base, pair);
    }
    return sides;
  } finally {
    source.close();
  }
}
