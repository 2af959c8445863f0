/** Storages of the WebGPU backend: buffers that fit into one binding, and what they are parts of. */
import { assert } from "@/assert.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { KvCache, Matrix } from "../backend.ts";

/** One buffer on the device. */
export interface Block {
  readonly buffer: GPUBuffer;
  /** Of the buffer; a multiple of 16. */
  readonly sizeBytes: number;
}

/** A part of a block that an op reads or writes. */
export interface Range {
  readonly block: Block;
  readonly byteOffset: number;
  readonly sizeBytes: number;
}

export class TensorStorage implements Storage {
  /** What the host wrote, for bytes only: writes that do not end at whole words need it. */
  shadow: Uint8Array<ArrayBuffer> | undefined;

  constructor(readonly sizeBytes: number, readonly block: Block) {}
}

/** Panels [firstPanel, firstPanel + panels) of all experts' panels, one expert after the other. */
export interface PanelBlock extends Block {
  readonly firstPanel: number;
  readonly panels: number;
}

/** A panel of which rows are still missing. */
export interface PartialPanel {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bit per row that was packed. */
  rows: number;
}

export class MatrixStorage implements Storage {
  /** By number of the panel. */
  readonly partial = new Map<number, PartialPanel>();

  constructor(readonly sizeBytes: number, readonly blocks: readonly PanelBlock[]) {}
}

export class KvStorage implements Storage {
  /** One block per layer. */
  constructor(readonly sizeBytes: number, readonly layers: readonly Block[]) {}
}

export function tensorStorage(tensor: Tensor): TensorStorage {
  assert(tensor.storage instanceof TensorStorage, "the tensor belongs to another backend");
  return tensor.storage;
}

export function matrixStorage(matrix: Matrix): MatrixStorage {
  assert(matrix.storage instanceof MatrixStorage, "the matrix belongs to another backend");
  return matrix.storage;
}

export function kvStorage(cache: KvCache): KvStorage {
  assert(cache.storage instanceof KvStorage, "the KV cache belongs to another backend");
  return cache.storage;
}

/** Blocks of any of the storages. */
export function blocksOf(storage: Storage): readonly Block[] {
  if (storage instanceof TensorStorage) return [storage.block];
  if (storage instanceof MatrixStorage) return storage.blocks;
  assert(storage instanceof KvStorage, "the storage belongs to another backend");
  return storage.layers;
}
