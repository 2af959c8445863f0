/**
 * A copy of everything that a step of the optimiser changes, to be put back bit for bit: weights that
 * learn, their moments, the step count. Lies in memory as the backend holds it, and in checkpoints as
 * one file.
 */
import { assert } from "@/assert.ts";
import type { Backend } from "@/kernels/backend.ts";
import { expertBytes, panelCount } from "@/kernels/matrix_layout.ts";
import { encodeSafetensors, type TensorToWrite } from "@/weights/safetensors_writer.ts";
import { readSafetensorsHeader } from "@/weights/safetensors.ts";
import type { FileFolder } from "@/weights/source.ts";
import type { Optimizer } from "./optimizer.ts";
import type { ParameterSet, ParameterStore } from "./parameter_set.ts";

export interface SnapshotParts {
  readonly backend: Backend;
  readonly set: ParameterSet;
  readonly optimizer: Optimizer;
}

export interface Snapshot {
  readonly stepCount: number;
  /** Bytes of the stores in the backend's layout, by name. */
  readonly stores: ReadonlyMap<string, Uint8Array>;
}

/** All stores that learning changes, by name. */
function* storesOf({ set, optimizer }: SnapshotParts): Generator<[string, ParameterStore]> {
  for (const parameter of set.trainable) {
    const { first, second } = optimizer.momentsOf(parameter);
    yield [`${parameter.name}/weights`, parameter.store];
    yield [`${parameter.name}/first`, first];
    if (second) yield [`${parameter.name}/second`, second];
  }
}

/** Waits for recorded ops. */
export async function takeSnapshot(parts: SnapshotParts): Promise<Snapshot> {
  await parts.backend.flush();
  const stores = new Map<string, Uint8Array>();
  for (const [name, store] of storesOf(parts)) {
    stores.set(name, await readBytes(parts.backend, store));
  }
  return { stepCount: parts.optimizer.stepCount, stores };
}

/** Waits for recorded ops. */
export async function restoreSnapshot(parts: SnapshotParts, snapshot: Snapshot): Promise<void> {
  await parts.backend.flush();
  for (const [name, store] of storesOf(parts)) {
    const bytes = snapshot.stores.get(name);
    assert(bytes, `${name} is not in the snapshot`);
    writeBytes(parts.backend, store, bytes);
  }
  parts.optimizer.stepCount = snapshot.stepCount;
}

/** A snapshot as a file; the step count lies elsewhere. */
export function encodeSnapshot({ stores }: Snapshot): Uint8Array {
  const tensors: TensorToWrite[] = [];
  for (const [name, bytes] of stores) {
    tensors.push({ name, dtype: "U8", shape: [bytes.length], bytes });
  }
  return encodeSafetensors(tensors);
}

/** Reads what `encodeSnapshot` wrote. */
export async function readSnapshot(
  folder: FileFolder,
  { file, stepCount }: { file: string; stepCount: number },
): Promise<Snapshot> {
  const source = await folder.open(file);
  try {
    const stores = new Map<string, Uint8Array>();
    const { tensors } = await readSafetensorsHeader(source);
    for (const { name, offset, sizeBytes } of tensors) {
      stores.set(name, await source.read(offset, sizeBytes));
    }
    return { stepCount, stores };
  } finally {
    source.close();
  }
}

async function readBytes(backend: Backend, store: ParameterStore): Promise<Uint8Array> {
  if (store.kind === "tensor") {
    const { buffer, byteOffset, byteLength } = await backend.read(store.tensor);
    return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength));
  }
  const parts: Uint8Array[] = [];
  for (let expert = 0; expert < store.matrix.experts; expert++) {
    const all = { expert, firstPanel: 0, panelCount: panelCount(store.matrix) };
    parts.push(await backend.readPanels(store.matrix, all));
  }
  return joined(parts);
}

function writeBytes(backend: Backend, store: ParameterStore, bytes: Uint8Array): void {
  if (store.kind === "tensor") {
    backend.write(store.tensor, new Float32Array(bytes.slice().buffer));
    return;
  }
  const { matrix } = store;
  const size = bytes.length / matrix.experts;
  assert(size === expertBytes(matrix), `${size} bytes of panels`);
  for (let expert = 0; expert < matrix.experts; expert++) {
    const part = bytes.subarray(expert * size, (expert + 1) * size);
    backend.writePanels(matrix, { expert, firstPanel: 0, bytes: part });
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
