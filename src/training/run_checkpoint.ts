/**
 * Checkpoints of a training run: a folder `checkpoint-<steps computed>` each, which is a model folder
 * that serves (weights in float32) and holds beside it all that the run needs to go on with the same
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
import { readAdapter, writeAdapter } from "./adapter_files.ts";
import type { LowRankModel } from "./low_rank.ts";
import type { Optimizer } from "./optimizer.ts";
import { modelFileNames } from "./model_folder.ts";
import { readStore, writeStore } from "./parameter_values.ts";
import type { Parameter, ParameterStore } from "./parameter_set.ts";
import { type Origin, writeLineage } from "./run_lineage.ts";
import { writeSynced } from "./synced_file.ts";
import type { TrainableModel } from "./training_source.ts";
import { encodeWeights } from "./weights_file.ts";

const WEIGHTS = "model.safetensors";
/** Folder of what only training reads, so that the weights alone lie where a server looks. */
const TRAINING = "training";
/** Folder of low-rank additions; the weights beside it have them added. */
const ADAPTER = "adapter";
const MOMENTS = "moments.safetensors";
const STATE = "state.json";
const VERSION = 2;

/** The JSON beside the weights. */
interface StoredState {
  readonly version: number;
  /** Steps computed, also those that were taken back. */
  readonly computed: number;
  /** Steps of the optimiser. */
  readonly step: number;
  /** Of everything that must be the same for a run to go on. */
  readonly fingerprint: string;
  /** Parameters that learn, by name. */
  readonly learning: readonly string[];
  /** What the run itself wants to find again. */
  readonly run: unknown;
}

/** What a run finds again. */
export interface ResumedRun {
  readonly computed: number;
  /** Its own state. */
  readonly run: unknown;
  /** Holds the files that the run added to the checkpoint. */
  readonly folder: string;
}

export interface RunParts {
  readonly backend: Backend;
  readonly model: TrainableModel | LowRankModel;
  readonly optimizer: Optimizer;
  /** Where configuration and tokenizer are copied from. */
  readonly modelFolder: string;
  /** Of everything that must be the same for a run to go on. */
  readonly fingerprint: string;
  /** What the weights were before the run, and what it does to them. */
  readonly origin: Origin;
}

const nameOf = (computed: number) => `checkpoint-${String(computed).padStart(8, "0")}`;

/** Steps computed up to the complete checkpoints in a run's folder, ascending. */
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
export function checkpointFolder(folder: string, computed: number): string {
  return join(folder, nameOf(computed));
}

/** Writes the state of the run as it is. Waits for recorded ops. */
export async function writeCheckpoint(
  folder: string,
  parts: RunParts,
  options: {
    computed: number;
    run: unknown;
    files: ReadonlyMap<string, Uint8Array>;
    kept: number;
  },
): Promise<void> {
  const { backend, model, optimizer, modelFolder, fingerprint, origin } = parts;
  const { computed } = options;
  const state: StoredState = {
    version: VERSION,
    computed,
    step: optimizer.stepCount,
    fingerprint,
    learning: model.set.trainable.map(({ name }) => name),
    run: options.run,
  };
  const target = checkpointFolder(folder, computed);
  const partial = `${target}.partial`;
  await removeIfThere(partial);
  const aside = join(partial, TRAINING);
  await Deno.mkdir(aside, { recursive: true });
  const { config, set } = model;
  const weights = await encodeWeights(backend, set, { config, dtype: "F32" });
  await writeSynced(join(partial, WEIGHTS), weights);
  if ("pairs" in model) {
    await writeAdapter(join(partial, ADAPTER), { backend, model, base: origin.model });
  }
  await writeSynced(join(aside, MOMENTS), await encodeMoments(parts));
  for (const [name, bytes] of options.files) await writeSynced(join(aside, name), bytes);
  await writeLineage(partial, origin, { weights, steps: optimizer.stepCount });
  for (const name of modelFileNames) {
    await copyIfThere(join(modelFolder, name), join(partial, name));
  }
  const text = JSON.stringify(state);
  await writeSynced(join(aside, STATE), new TextEncoder().encode(text));
  await removeIfThere(target);
  await Deno.rename(partial, target);
  const steps = await checkpointSteps(folder);
  for (const old of steps.slice(0, -options.kept)) {
    await removeIfThere(checkpointFolder(folder, old));
  }
}

/**
 * Puts weights, moments and step of the newest checkpoint back; returns what the run itself
 * kept, or undefined when there is no checkpoint. Throws OperatingError when the checkpoint is of another run.
 */
export async function resumeCheckpoint(
  folder: string,
  parts: RunParts,
): Promise<ResumedRun | undefined> {
  const newest = (await checkpointSteps(folder)).at(-1);
  if (newest === undefined) return undefined;
  const { backend, model, optimizer } = parts;
  const from = checkpointFolder(folder, newest);
  const aside = join(from, TRAINING);
  const state = await readState(aside, parts);
  const learning = model.set.trainable.map(({ name }) => name);
  if (`${learning}` !== `${state.learning}`) throw refusal(from, "other weights learn in it");
  const weights = await readFloats(from, WEIGHTS);
  await restoreWeights(backend, model, weights, from);
  if ("pairs" in model) await restoreAdapter(backend, model, join(from, ADAPTER));
  const moments = await readFloats(aside, MOMENTS);
  for (const parameter of model.set.trainable) {
    for (const [kind, store] of runStores(parameter, optimizer)) {
      const values = moments.get(`${parameter.name}.${kind}`);
      if (!values) throw refusal(from, `${kind} of ${parameter.name} is missing`);
      await writeStore(backend, store, values);
    }
  }
  optimizer.stepCount = state.step;
  return { computed: state.computed, run: state.run, folder: aside };
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

/**
 * Stored tensors go back to the parameters that lie in them. Frozen matrices with additions are
 * stored merged; they are what the starting model gave already.
 */
async function restoreWeights(
  backend: Backend,
  { set }: TrainableModel,
  stored: ReadonlyMap<string, Float32Array>,
  from: string,
): Promise<void> {
  for (const { store, name, info: { places }, size } of set.parameters) {
    const isMerged = store.kind === "matrix" && set.lowRankOf(store.matrix) !== undefined;
    if (isMerged || places.length === 0) continue;
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

async function restoreAdapter(
  backend: Backend,
  { pairs }: LowRankModel,
  from: string,
): Promise<void> {
  const stored = await readAdapter(from);
  for (const { base, down, up } of pairs) {
    const pair = stored.pairs.get(base.name);
    if (!pair) throw refusal(from, `the addition to ${base.name} is missing`);
    await writeStore(backend, down.store, pair.down);
    await writeStore(backend, up.store, pair.up);
  }
}

/** What a checkpoint keeps of a parameter beside the model's weights. */
function runStores(
  parameter: Parameter,
  optimizer: Optimizer,
): readonly (readonly [kind: string, store: ParameterStore])[] {
  const { first, second } = optimizer.momentsOf(parameter);
  return [
    ["first", first],
    ...second ? [["second", second] as const] : [],
    ...parameter.part === "cues" ? [["weight", parameter.store] as const] : [],
  ];
}

async function encodeMoments({ backend, model, optimizer }: RunParts): Promise<Uint8Array> {
  const tensors: TensorToWrite[] = [];
  for (const parameter of model.set.trainable) {
    for (const [kind, store] of runStores(parameter, optimizer)) {
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
