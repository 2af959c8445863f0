/**
 * Checkpoints of a training run: a folder `checkpoint-<step>` each, which is a model folder that
 * serves (weights in float32) and holds beside it all that the run needs to go on with the same
 * bits: moments, step, and the state of data and controllers as JSON. A folder appears whole or
 * not at all; the newest few are kept.
 */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import { canonicalName } from "@/weights/names.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { readSafetensorsHeader } from "@/weights/safetensors.ts";
import { encodeSafetensors, type TensorToWrite } from "@/weights/safetensors_writer.ts";
import type { AdamW } from "./optimizer.ts";
import { readStore, writeStore } from "./parameter_values.ts";
import type { TrainableModel } from "./training_source.ts";
import { encodeWeights } from "./weights_file.ts";

const WEIGHTS = "model.safetensors";
const MOMENTS = "optimizer.safetensors";
const STATE = "training_state.json";
const VERSION = 1;

/** Files of a model folder besides its weights. */
const modelFiles = [
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
];

/** The JSON beside the weights. */
interface StoredState {
  readonly version: number;
  /** Steps of the optimiser. */
  readonly step: number;
  /** Of everything that must be the same for a run to go on. */
  readonly fingerprint: string;
  /** Parameters that learn, by name. */
  readonly learning: readonly string[];
  /** What the run itself wants to find again. */
  readonly run: unknown;
}

export interface RunParts {
  readonly backend: Backend;
  readonly model: TrainableModel;
  readonly optimizer: AdamW;
  /** Where configuration and tokenizer are copied from. */
  readonly modelFolder: string;
  /** Of everything that must be the same for a run to go on. */
  readonly fingerprint: string;
}

const nameOf = (step: number) => `checkpoint-${String(step).padStart(8, "0")}`;

/** Steps of the complete checkpoints in a run's folder, ascending. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  const steps: number[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) {
      const match = /^checkpoint-(\d{8})$/.exec(name);
      if (match) steps.push(Number(match[1]));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return steps.sort((a, b) => a - b);
}

/** The folder of a run's checkpoint. */
export function checkpointFolder(folder: string, step: number): string {
  return join(folder, nameOf(step));
}

/** Writes the state of the run after `optimizer.stepCount` steps. Waits for recorded ops. */
export async function writeCheckpoint(
  folder: string,
  parts: RunParts,
  options: { run: unknown; kept: number },
): Promise<string> {
  const { backend, model, optimizer, modelFolder, fingerprint } = parts;
  const step = optimizer.stepCount;
  const state: StoredState = {
    version: VERSION,
    step,
    fingerprint,
    learning: model.set.trainable.map(({ name }) => name),
    run: options.run,
  };
  const target = checkpointFolder(folder, step);
  const partial = `${target}.partial`;
  await removeIfThere(partial);
  await Deno.mkdir(partial, { recursive: true });
  const { config, set } = model;
  const weights = await encodeWeights(backend, set.parameters, { config, dtype: "F32" });
  await writeSynced(join(partial, WEIGHTS), weights);
  await writeSynced(join(partial, MOMENTS), await encodeMoments(parts));
  for (const name of modelFiles) await copyIfThere(join(modelFolder, name), join(partial, name));
  const text = JSON.stringify(state);
  await writeSynced(join(partial, STATE), new TextEncoder().encode(text));
  await removeIfThere(target);
  await Deno.rename(partial, target);
  const steps = await checkpointSteps(folder);
  for (const old of steps.slice(0, -options.kept)) {
    await removeIfThere(checkpointFolder(folder, old));
  }
  return target;
}

/**
 * Puts weights, moments and step of the newest checkpoint back; returns the run's own state, or
 * undefined when there is none. Throws OperatingError when the checkpoint is of another run.
 */
export async function resumeCheckpoint(folder: string, parts: RunParts): Promise<unknown> {
  const step = (await checkpointSteps(folder)).at(-1);
  if (step === undefined) return undefined;
  const { backend, model, optimizer } = parts;
  const from = checkpointFolder(folder, step);
  const state = await readState(from, parts);
  const learning = model.set.trainable.map(({ name }) => name);
  if (`${learning}` !== `${state.learning}`) throw refusal(from, "other weights learn in it");
  const weights = await readFloats(from, WEIGHTS);
  await restoreWeights(backend, model, weights, from);
  const moments = await readFloats(from, MOMENTS);
  for (const parameter of model.set.trainable) {
    const { first, second } = optimizer.momentsOf(parameter);
    for (const [kind, store] of [["first", first], ["second", second]] as const) {
      const values = moments.get(`${parameter.name}.${kind}`);
      if (!values) throw refusal(from, `moments of ${parameter.name} are missing`);
      await writeStore(backend, store, values);
    }
  }
  optimizer.stepCount = state.step;
  return state.run;
}

async function readState(from: string, { fingerprint }: RunParts): Promise<StoredState> {
  const text = await Deno.readTextFile(join(from, STATE));
  const state = JSON.parse(text) as StoredState;
  if (state.version !== VERSION) throw refusal(from, `its version is ${state.version}`);
  if (state.fingerprint !== fingerprint) throw refusal(from, "it belongs to another recipe");
  return state;
}

function refusal(from: string, problem: string): OperatingError {
  return new OperatingError("checkpoint_invalid", `Cannot resume from ${from}: ${problem}`);
}

/** Stored tensors go back to the parameters that lie in them. */
async function restoreWeights(
  backend: Backend,
  { set }: TrainableModel,
  stored: ReadonlyMap<string, Float32Array>,
  from: string,
): Promise<void> {
  for (const { store, name, info: { places }, size } of set.parameters) {
    const values = new Float32Array(size);
    const partSize = size / places.length;
    const width = store.kind === "matrix" ? store.matrix.columns : 1;
    for (const [i, place] of places.entries()) {
      const whole = stored.get(place.name);
      if (!whole) throw refusal(from, `${name} is missing`);
      const start = place.first * width;
      values.set(whole.subarray(start, start + partSize), i * partSize);
    }
    await writeStore(backend, store, values);
  }
}

async function encodeMoments({ backend, model, optimizer }: RunParts): Promise<Uint8Array> {
  const tensors: TensorToWrite[] = [];
  for (const parameter of model.set.trainable) {
    const { first, second } = optimizer.momentsOf(parameter);
    for (const [kind, store] of [["first", first], ["second", second]] as const) {
      const values = await readStore(backend, store);
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      const name = `${parameter.name}.${kind}`;
      tensors.push({ name, dtype: "F32", shape: [values.length], bytes });
    }
  }
  return encodeSafetensors(tensors);
}

/** Tensors of a float32 file; weights by canonical name, others by their own. */
async function readFloats(folder: string, file: string): Promise<Map<string, Float32Array>> {
  const source = await diskFolder(folder).open(file);
  try {
    const out = new Map<string, Float32Array>();
    const header = await readSafetensorsHeader(source);
    if (header.problems.length > 0) throw refusal(folder, header.problems.join("; "));
    for (const { name, offset, sizeBytes } of header.tensors) {
      const values = decodeToF32(await source.read(offset, sizeBytes), "F32");
      out.set(file === WEIGHTS ? canonicalName(name) ?? name : name, values);
    }
    return out;
  } finally {
    source.close();
  }
}

/** Writes a file and waits until it is on disk. */
async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  try {
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
  } finally {
    file.close();
  }
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await Deno.copyFile(from, to);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
