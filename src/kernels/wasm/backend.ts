/** The WASM backend: choosing a variant, starting it, and the backend's own operations. */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { type DType, dtypeBytes, elementCount, fileDTypeBytes } from "@/tensor/dtype.ts";
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
import { expertBytes, panelBytes, panelCount } from "../matrix_layout.ts";
import type { Ops } from "../ops.ts";
import type { TrainingOps } from "../training_ops.ts";
import { CONTROL_BYTES } from "./control.ts";
import { type Executor, InlineExecutor } from "./executor.ts";
import { type Variant, WIDE_VARIANT } from "./variants.ts";
import { checkTable, instantiateKernels } from "./instance.ts";
import { fileTypeNumber, kvBytes, kvPageParts, matrixFormatNumber, storageOf } from "./layout.ts";
import { Machine } from "./machine.ts";
import { Arena, LinearMemory, narrowMemory, PAGE_BYTES, wideMemory } from "./memory.ts";
import { recordingOps } from "./ops.ts";
import { type OpProfile, ProfilingExecutor } from "./profile.ts";
import { ThreadTeam } from "./team.ts";
import { recordingTrainingOps } from "./training_ops.ts";
import { chooseVariant, loadModule, type VariantOptions } from "./variant.ts";

/**
 * By default the best variant that the machine has, of 64-bit addresses only if `memoryBytes` asks
 * for them. With `modules`, for programs that cannot read files, no others are used.
 */
export interface WasmBackendOptions extends VariantOptions {
  /** Size of the thread team; by default one per logical core. */
  readonly threads?: number;
  /** Folder that holds `compute-<variant>/compute_bg.wasm`. */
  readonly kernelsFolder?: URL;
  /** Starts a worker that runs `worker.ts`: bundled programs have no sources beside them. */
  readonly startWorker?: () => Worker;
  /** Books the time of every op, which makes all of them slower. */
  readonly profile?: OpProfile;
}

/** Pages that a module may need before its own heap grows. */
const INITIAL_PAGES = 64;
/** Wide memories may grow beyond the estimated need by this factor. */
const NEED_MARGIN = 1.5;
/** Part of the numeric class: raised when kernels change their arithmetic or the KV layout. */
const ARITHMETIC_VERSION = 4;

const variantNames = {
  "relaxed-threads": "relaxed-simd+threads",
  "simd-threads": "simd128+threads",
  simd: "simd128",
  [WIDE_VARIANT]: "relaxed-simd+threads+memory64",
} as const;

/**
 * Opens the backend. Throws OperatingError("unavailable") when the machine lacks what the variant
 * needs or its module cannot be loaded.
 */
export async function openWasmBackend(options: WasmBackendOptions = {}): Promise<Backend> {
  const { variant, reason } = chooseVariant(options);
  const module = await loadModule(variant, options);
  const { arena, executor: plain } = variant === "simd"
    ? startInline(module, options.training ?? false)
    : await startTeam(module, teamMemory(variant, options.memoryBytes), options);
  const executor = options.profile
    ? new ProfilingExecutor(plain, arena.memory, options.profile)
    : plain;
  // No result depends on the address width.
  const family = variant.startsWith("relaxed") ? "relaxed-simd" : "simd128";
  const machine = new Machine(arena, executor);
  const description = {
    variant: variantNames[variant],
    reason,
    threads: executor.threads,
    numericClass: `wasm/${family}${executor.fused ? "-fused" : ""}/${ARITHMETIC_VERSION}`,
  };
  return new WasmBackend(machine, description, options.training ?? false);
}

function teamSize(requested: number | undefined): number {
  if (requested === undefined) {
    return Math.max(1, Math.min(navigator.hardwareConcurrency, limits.kernelThreadsMax));
  }
  if (Number.isInteger(requested) && requested >= 1 && requested <= limits.kernelThreadsMax) {
    return requested;
  }
  throw new OperatingError(
    "invalid_request",
    `Cannot start ${requested} kernel threads: expected 1 to ${limits.kernelThreadsMax}`,
    { field: "threads" },
  );
}

function startInline(
  module: WebAssembly.Module,
  training: boolean,
): { arena: Arena; executor: Executor } {
  const kernels = instantiateKernels(module);
  checkTable(kernels.table_hash(), training);
  const memory = new LinearMemory(kernels.memory);
  const arena = new Arena(memory);
  const control = arena.allocate(CONTROL_BYTES);
  return { arena, executor: new InlineExecutor(kernels, memory, control) };
}

/** Narrow memories may grow to all that they can address, wide ones to the need with room. */
function teamMemory(variant: Variant, memoryBytes: number | undefined): LinearMemory {
  const isWide = variant === WIDE_VARIANT;
  let maximumPages: number = limits.kernelMemoryPagesMax;
  if (isWide) {
    const needed = Math.ceil((memoryBytes ?? Infinity) * NEED_MARGIN / PAGE_BYTES);
    maximumPages = Math.min(limits.kernelMemory64PagesMax, Math.max(maximumPages, needed));
  }
  const size = { initialPages: INITIAL_PAGES, maximumPages };
  try {
    const memory = isWide ? wideMemory(size) : narrowMemory(size);
    return new LinearMemory(memory, { isWide, maximumPages });
  } catch (cause) {
    // Nothing but addresses is taken here, of which a process may be granted too few.
    if (!(cause instanceof RangeError)) throw cause;
    const mib = Math.round(maximumPages * PAGE_BYTES / 2 ** 20);
    const message = `Cannot reserve ${mib} MiB of addresses for the kernels`;
    throw new OperatingError("unavailable", message, { cause });
  }
}

async function startTeam(
  module: WebAssembly.Module,
  memory: LinearMemory,
  options: Pick<WasmBackendOptions, "threads" | "startWorker" | "training">,
): Promise<{ arena: Arena; executor: Executor }> {
  const threads = teamSize(options.threads);
  const arena = new Arena(memory);
  const control = arena.allocate(CONTROL_BYTES);
  const { startWorker, training = false } = options;
  const start = { module, memory, control, threads, training };
  const team = { ...start, ...(startWorker && { startWorker }) };
  return { arena, executor: await ThreadTeam.start(team) };
}

export class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly description: BackendDescription;
  readonly ops: Ops;
  readonly training?: TrainingOps;
  readonly #machine: Machine;

  constructor(machine: Machine, description: BackendDescription, training: boolean) {
    this.#machine = machine;
    this.description = description;
    this.ops = recordingOps(machine);
    if (training) this.training = recordingTrainingOps(machine);
  }

  allocate(dtype: DType, shape: readonly number[]): Tensor {
    const storage = this.#machine.allocate(elementCount(shape) * dtypeBytes[dtype]);
    return { dtype, shape, storage, byteOffset: 0 };
  }

  free(item: { readonly storage: Storage }): void {
    this.#machine.free(storageOf(item, this.#machine));
  }

  createMatrix(
    options: { format: MatrixFormat; rows: number; columns: number; experts?: number },
  ): Matrix {
    const { format, rows, columns, experts = 1 } = options;
    const shape = { format, rows, columns, experts };
    const storage = this.#machine.allocate(expertBytes(shape) * experts);
    return { ...shape, storage };
  }

  async packRows(matrix: Matrix, part: FileRows): Promise<void> {
    const { expert = 0, firstRow, rowCount, bytes, dtype } = part;
    const rowBytes = matrix.columns * fileDTypeBytes[dtype];
    assert(expert >= 0 && expert < matrix.experts, `expert ${expert} of ${matrix.experts}`);
    assert(
      firstRow >= 0 && firstRow + rowCount <= matrix.rows,
      `rows ${firstRow}+${rowCount} of ${matrix.rows}`,
    );
    assert(bytes.byteLength === rowCount * rowBytes, `${bytes.byteLength} bytes of rows`);
    if (bytes.byteLength === 0) return;
    const arena = this.#machine.arena;
    const chunkRows = Math.max(1, Math.floor(limits.packStagingBytesMax / rowBytes));
    const stagingBytes = Math.min(chunkRows, rowCount) * rowBytes;
    const staging = arena.allocate(stagingBytes, { fill: false });
    try {
      for (let row = 0; row < rowCount; row += chunkRows) {
        const rows = Math.min(chunkRows, rowCount - row);
        arena.memory.bytes.set(bytes.subarray(row * rowBytes, (row + rows) * rowBytes), staging);
        this.#recordPack(matrix, { expert, firstRow: firstRow + row, rows, dtype, staging });
        await this.#machine.flush();
      }
    } finally {
      arena.free(staging, stagingBytes);
    }
  }

  async readPanels(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    await this.flush();
    const sizeBytes = part.panelCount * panelBytes(matrix);
    const address = this.#panelAddress(matrix, part, sizeBytes);
    return this.#machine.arena.memory.bytes.slice(address, address + sizeBytes);
  }

  writePanels(matrix: Matrix, part: PackedPanels): void {
    const address = this.#panelAddress(matrix, part, part.bytes.byteLength);
    this.#machine.arena.memory.bytes.set(part.bytes, address);
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
    return { ...shape, storage: this.#machine.allocate(kvBytes(shape).layerBytes * layers) };
  }

  write(tensor: Tensor, values: Float32Array | Int32Array | Uint8Array): void {
    assert(values.length === elementCount(tensor.shape), `${values.length} for [${tensor.shape}]`);
    this.#view(tensor).set(values);
  }

  async read(tensor: Tensor): Promise<Float32Array | Int32Array | Uint8Array> {
    await this.flush();
    return this.#view(tensor).slice();
  }

  async readKvPage(cache: KvCache, page: number): Promise<Uint8Array<ArrayBuffer>> {
    await this.flush();
    const { offsets, partBytes } = kvPageParts(cache, page);
    const { address } = storageOf(cache, this.#machine);
    const memory = this.#machine.arena.memory.bytes;
    const bytes = new Uint8Array(offsets.length * partBytes);
    for (const [layer, offset] of offsets.entries()) {
      const start = address + offset;
      bytes.set(memory.subarray(start, start + partBytes), layer * partBytes);
    }
    return bytes;
  }

  writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void {
    const { offsets, partBytes } = kvPageParts(cache, page);
    const pageBytes = offsets.length * partBytes;
    if (bytes.length !== pageBytes) {
      throw new RangeError(
        `Cannot restore a KV page of ${bytes.length} bytes: it has ${pageBytes}`,
      );
    }
    const { address } = storageOf(cache, this.#machine);
    const memory = this.#machine.arena.memory.bytes;
    for (const [layer, offset] of offsets.entries()) {
      memory.set(bytes.subarray(layer * partBytes, (layer + 1) * partBytes), address + offset);
    }
  }

  flush(options: { readonly isShort?: boolean } = {}): Promise<void> {
    return this.#machine.flush(options);
  }

  get isHere(): boolean {
    return this.#machine.isHere;
  }

  viewHere(tensor: Tensor): Float32Array | Int32Array | Uint8Array {
    this.#machine.flushHere();
    return this.#view(tensor);
  }

  repeat<T>(of: { owner: object; key: string }, record: () => Promise<T>): Promise<T> {
    return this.#machine.repeat(of, record);
  }

  /** Records one run of a probe; see `probe.ts`. */
  probe(options: { kind: number; memory: Tensor; count: number; out: Tensor }): void {
    const { kind, memory, count, out } = options;
    const machine = this.#machine;
    assert(elementCount(out.shape) >= machine.executor.threads, "a result per thread");
    this.#machine.record("probe", {
      kind,
      memory: machine.address(memory, "u8"),
      count,
      out: machine.address(out),
    });
  }

  usedBytes(): number {
    return this.#machine.liveBytes;
  }

  close(): Promise<void> {
    return this.#machine.close();
  }

  /** Where whole panels of `sizeBytes` in all lie. */
  #panelAddress(
    matrix: Matrix,
    { expert = 0, firstPanel }: { expert?: number; firstPanel: number },
    sizeBytes: number,
  ): number {
    const size = panelBytes(matrix);
    assert(sizeBytes % size === 0, `${sizeBytes} bytes in panels of ${size}`);
    const end = firstPanel + sizeBytes / size;
    assert(expert >= 0 && expert < matrix.experts, `expert ${expert} of ${matrix.experts}`);
    assert(
      firstPanel >= 0 && end <= panelCount(matrix),
      `panels ${firstPanel} to ${end} of ${panelCount(matrix)}`,
    );
    const { address } = storageOf(matrix, this.#machine);
    return address + expert * expertBytes(matrix) + firstPanel * size;
  }

  #recordPack(
    matrix: Matrix,
    part: {
      expert: number;
      firstRow: number;
      rows: number;
      dtype: "F32" | "F16" | "BF16";
      staging: number;
    },
  ): void {
    this.#machine.record("packRows", {
      source: part.staging,
      dtype: fileTypeNumber[part.dtype],
      firstRow: part.firstRow,
      rows: part.rows,
      columns: matrix.columns,
      weight: storageOf(matrix, this.#machine).address + part.expert * expertBytes(matrix),
      format: matrixFormatNumber[matrix.format],
      panelBytes: panelBytes(matrix),
    });
  }

  /** A view of a tensor's elements; valid until the memory grows. */
  #view(tensor: Tensor): Float32Array | Int32Array | Uint8Array {
    const address = this.#machine.address(tensor, tensor.dtype);
    const length = elementCount(tensor.shape);
    const memory = this.#machine.arena.memory;
    if (tensor.dtype === "u8") return memory.bytes.subarray(address, address + length);
    const view = tensor.dtype === "f32" ? memory.floats : memory.integers;
    return view.subarray(address / 4, address / 4 + length);
  }
}
