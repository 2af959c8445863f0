/** The WebGPU backend: opening it, and the backend's own operations. */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type {
  Backend,
  BackendDescription,
  FileRows,
  KvCache,
  Matrix,
  MatrixFormat,
  PackedPanels,
} from "../backend.ts";
import type { Ops } from "../ops.ts";
import { openReferenceBackend } from "../reference/backend.ts";
import { type Device, openDevice } from "./device.ts";
import { Machine } from "./machine.ts";
import { Matrices } from "./matrices.ts";
import type { Fusion } from "./fusion.ts";
import { openFusion } from "./ops.ts";
import { kvPageBytes } from "./ranges.ts";
import { defaultTuning, type Tuning } from "./tuning.ts";
import {
  type Block,
  blocksOf,
  KvStorage,
  kvStorage,
  TensorStorage,
  tensorStorage,
} from "./storage.ts";

export interface WebGpuBackendOptions {
  /** Default: `navigator.gpu`. */
  readonly gpu?: GPU;
  /** Bytes that storages may take on the device; WebGPU itself does not tell how many fit. */
  readonly memoryBytes?: number;
  /** Bytes of one binding, if fewer than the adapter takes: weights are split accordingly. */
  readonly bindingBytesMax?: number;
  /**
   * Converts file values into packed weights, as the device has no exact kernels for that. The
   * backend closes it. Default: the reference, which is slow.
   */
  readonly packer?: Backend;
  /** Without what not every adapter has: half-precision values, subgroups, packed dot products. */
  readonly portable?: boolean;
  /** Choices that suit the adapter; no bit depends on them. */
  readonly tuning?: Tuning;
  /**
   * Rows of one sequence share keys and values in workgroup memory. Default: not on software
   * adapters, whose memory is all the same and whose compilers take seconds for it.
   */
  readonly sharedAttention?: boolean;
}

/** Part of the numeric class: raised when kernels change their arithmetic or the KV layout. */
const ARITHMETIC_VERSION = 2;

/** Throws OperatingError("unavailable") when there is no adapter or it refuses a device. */
export async function openWebGpuBackend(options: WebGpuBackendOptions = {}): Promise<Backend> {
  const device = await openDevice(options.gpu ?? navigator.gpu, options);
  const machine = new Machine(device, {
    budgetBytes: options.memoryBytes ?? Infinity,
    bindingBytesMax: options.bindingBytesMax ?? Infinity,
  });
  const { packer = openReferenceBackend(), tuning = defaultTuning } = options;
  const { sharedAttention = !device.isSoftware } = options;
  return new WebGpuBackend(machine, packer, { tuning, sharedAttention });
}

function describe(device: Device): BackendDescription {
  return {
    variant: "wgsl",
    reason: device.adapterName,
    threads: 1,
    // Adapters round differently where WGSL lets them.
    numericClass: `webgpu/${device.adapterName}/${ARITHMETIC_VERSION}`,
  };
}

class WebGpuBackend implements Backend {
  readonly name = "webgpu";
  readonly description: BackendDescription;
  /** A readback takes about 11 ms in Deno, whatever its size, but many can be on their way. */
  readonly programsInFlight = 8;
  readonly ops: Ops;
  readonly #machine: Machine;
  readonly #packer: Backend;
  readonly #matrices: Matrices;
  readonly #fusion: Fusion;
  readonly #live = new Set<Storage>();

  constructor(
    machine: Machine,
    packer: Backend,
    choices: { tuning: Tuning; sharedAttention: boolean },
  ) {
    this.#machine = machine;
    this.#packer = packer;
    this.#matrices = new Matrices(machine, packer);
    this.description = describe(machine.device);
    this.#fusion = openFusion(machine, choices);
    this.ops = this.#fusion.ops;
  }

  get lost(): OperatingError | undefined {
    return this.#machine.failure;
  }

  allocate(dtype: DType, shape: readonly number[]): Tensor {
    const sizeBytes = elementCount(shape) * dtypeBytes[dtype];
    const storage = new TensorStorage(sizeBytes, this.#machine.allocate(sizeBytes));
    this.#live.add(storage);
    return { dtype, shape, storage, byteOffset: 0 };
  }

  free(item: { readonly storage: Storage }): void {
    assert(this.#live.delete(item.storage), "freed twice, or not of this backend");
    for (const block of blocksOf(item.storage)) this.#machine.free(block);
  }

  createMatrix(
    options: { format: MatrixFormat; rows: number; columns: number; experts?: number },
  ): Matrix {
    const matrix = this.#matrices.create(options);
    this.#live.add(matrix.storage);
    return matrix;
  }

  packRows(matrix: Matrix, part: FileRows): Promise<void> {
    return this.#matrices.packRows(matrix, part);
  }

  readPanels(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    return this.#matrices.readPanels(matrix, part);
  }

  writePanels(matrix: Matrix, part: PackedPanels): void {
    this.#matrices.writePanels(matrix, part);
  }

  kvPagesMax(shape: Omit<KvCache, "storage" | "pages">): number {
    return Math.floor(this.#machine.bindingBytesMax / kvPageBytes(shape));
  }

  createKvCache(options: Omit<KvCache, "storage">): KvCache {
    const { format, layers, pages, pageTokens, kvHeads, headWidth } = options;
    if (headWidth > limits.headWidthMax) {
      throw new OperatingError(
        "checkpoint_invalid",
        `Cannot cache heads of width ${headWidth}: the kernels take up to ${limits.headWidthMax}`,
      );
    }
    const shape = { format, layers, pages, pageTokens, kvHeads, headWidth };
    const layerBytes = pages * kvPageBytes(shape);
    if (layerBytes > this.#machine.bindingBytesMax) {
      throw new OperatingError(
        "unavailable",
        `Cannot hold ${pages} KV pages on the GPU: a layer takes ${layerBytes} bytes, ` +
          `one binding ${this.#machine.bindingBytesMax}`,
      );
    }
    const blocks: Block[] = [];
    try {
      for (let layer = 0; layer < layers; layer++) blocks.push(this.#machine.allocate(layerBytes));
    } catch (error) {
      for (const block of blocks) this.#machine.free(block);
      throw error;
    }
    const storage = new KvStorage(layerBytes * layers, blocks);
    this.#live.add(storage);
    return { ...shape, storage };
  }

  write(tensor: Tensor, values: Float32Array | Int32Array | Uint8Array): void {
    assert(values.length === elementCount(tensor.shape), `${values.length} for [${tensor.shape}]`);
    const storage = tensorStorage(tensor);
    const bytes = hostBytes(values);
    if (tensor.dtype !== "u8") return this.#machine.write(storage.block, tensor.byteOffset, bytes);
    // Neighbouring bytes of the first and last word are written anew.
    const shadow = storage.shadow ??= new Uint8Array(storage.block.sizeBytes);
    shadow.set(bytes, tensor.byteOffset);
    const from = tensor.byteOffset - tensor.byteOffset % 4;
    const to = Math.ceil((tensor.byteOffset + bytes.length) / 4) * 4;
    this.#machine.write(storage.block, from, shadow.subarray(from, to));
  }

  async read(tensor: Tensor): Promise<Float32Array | Int32Array | Uint8Array> {
    this.#fusion.drain();
    const { block } = tensorStorage(tensor);
    const sizeBytes = elementCount(tensor.shape) * dtypeBytes[tensor.dtype];
    const [bytes] = await this.#machine.read([
      { block, byteOffset: tensor.byteOffset, sizeBytes },
    ]);
    if (tensor.dtype === "u8") return bytes!;
    return tensor.dtype === "f32" ? new Float32Array(bytes!.buffer) : new Int32Array(bytes!.buffer);
  }

  async readKvPage(cache: KvCache, page: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#fusion.drain();
    const partBytes = kvPageBytes(cache);
    const ranges = this.#pageRanges(cache, page);
    const parts = await this.#machine.read(ranges);
    const bytes = new Uint8Array(parts.length * partBytes);
    for (const [layer, part] of parts.entries()) bytes.set(part, layer * partBytes);
    return bytes;
  }

  writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void {
    const ranges = this.#pageRanges(cache, page);
    const partBytes = kvPageBytes(cache);
    const pageBytes = ranges.length * partBytes;
    if (bytes.length !== pageBytes) {
      throw new RangeError(
        `Cannot restore a KV page of ${bytes.length} bytes: it has ${pageBytes}`,
      );
    }
    for (const [layer, { block, byteOffset }] of ranges.entries()) {
      const part = bytes.slice(layer * partBytes, (layer + 1) * partBytes);
      this.#machine.write(block, byteOffset, part);
    }
  }

  /** Hands the program to the device; what it computes is waited for by whoever reads it. */
  async flush(): Promise<void> {
    this.#fusion.drain();
    this.#machine.submit();
    await this.#machine.check();
  }

  repeat<T>(of: { owner: object; key: string }, record: () => Promise<T>): Promise<T> {
    this.#fusion.drain();
    return this.#machine.repeat(of, async () => {
      const value = await record();
      this.#fusion.drain();
      return value;
    });
  }

  usedBytes(): number {
    return this.#machine.liveBytes;
  }

  async close(): Promise<void> {
    this.#live.clear();
    await this.#machine.close();
    await this.#packer.close();
  }

  #pageRanges(cache: KvCache, page: number) {
    assert(page >= 0 && page < cache.pages, `page ${page} of ${cache.pages}`);
    const sizeBytes = kvPageBytes(cache);
    return kvStorage(cache).layers.map((block) => ({
      block,
      byteOffset: page * sizeBytes,
      sizeBytes,
    }));
  }
}

/** The bytes of a typed array, in memory that is not shared. */
function hostBytes(values: Float32Array | Int32Array | Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = values;
  if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer, byteOffset, byteLength);
  return new Uint8Array(buffer, byteOffset, byteLength).slice();
}
