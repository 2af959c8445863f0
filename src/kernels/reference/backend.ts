/**
 * The reference backend: plain TypeScript, one thread, no tricks. It is the oracle that the fast
 * backends are compared with, and runs wherever JavaScript runs. It does not try to be fast.
 */
import { assert } from "@/assert.ts";
import { type Clock, systemClock } from "@/clock.ts";
import { type DType, dtypeBytes, elementCount } from "@/tensor/dtype.ts";
import type { Storage, Tensor } from "@/tensor/tensor.ts";
import type { Backend, BackendDescription, KvCache, Matrix, PackedPanels } from "../backend.ts";
import type { Ops } from "../ops.ts";
import type { TrainingOps } from "../training_ops.ts";
import { createKvCache, readKvPage, writeKvPage } from "./kv_cache.ts";
import { createMatrix, packRows } from "./matrix.ts";
import { readPanels, writePanels } from "./panels.ts";
import { recordingOps } from "./recorder.ts";
import { HostStorage, viewOf } from "./storage.ts";
import { recordingTrainingOps } from "./training/recorder.ts";

/** Work done between two turns of the event loop, so that timers and requests stay alive. */
const SLICE_MS = 20;

const description: BackendDescription = {
  variant: "typescript",
  reason: "plain TypeScript works everywhere",
  threads: 1,
  numericClass: "reference/typescript/3",
};

/** Opens a reference backend. It holds no resources beyond its arrays. */
export function openReferenceBackend(options: { clock?: Clock } = {}): Backend {
  return new ReferenceBackend(options.clock ?? systemClock);
}

class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly description = description;
  readonly ops: Ops;
  readonly training: TrainingOps;
  readonly #clock: Clock;
  readonly #storages = new Set<Storage>();
  #recorded: (() => void)[] = [];
  /** Ends when everything flushed so far has run; never rejects. */
  #running: Promise<void> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.ops = recordingOps((run) => this.#recorded.push(run));
    this.training = recordingTrainingOps((run) => this.#recorded.push(run));
  }

  allocate(dtype: DType, shape: readonly number[]): Tensor {
    const storage = new HostStorage(dtypeBytes[dtype] * elementCount(shape));
    this.#storages.add(storage);
    return { dtype, shape, storage, byteOffset: 0 };
  }

  free(item: { readonly storage: Storage }): void {
    assert(this.#storages.delete(item.storage), "freed twice, or not of this backend");
  }

  createMatrix(options: Parameters<Backend["createMatrix"]>[0]): Matrix {
    const matrix = createMatrix(options);
    this.#storages.add(matrix.storage);
    return matrix;
  }

  packRows(matrix: Matrix, part: Parameters<Backend["packRows"]>[1]): Promise<void> {
    return Promise.try(packRows, matrix, part);
  }

  readPanels(
    matrix: Matrix,
    part: { expert?: number; firstPanel: number; panelCount: number },
  ): Promise<Uint8Array<ArrayBuffer>> {
    return Promise.try(readPanels, matrix, part);
  }

  writePanels(matrix: Matrix, part: PackedPanels): void {
    writePanels(matrix, part);
  }

  createKvCache(options: Parameters<Backend["createKvCache"]>[0]): KvCache {
    const cache = createKvCache(options);
    this.#storages.add(cache.storage);
    return cache;
  }

  write(tensor: Tensor, values: Float32Array | Int32Array | Uint8Array): void {
    const view = viewOf(tensor);
    assert(
      view.length === values.length && view.constructor === values.constructor,
      `${values.constructor.name} of ${values.length} for ${tensor.dtype} [${tensor.shape}]`,
    );
    view.set(values);
  }

  async read(tensor: Tensor): Promise<Float32Array | Int32Array | Uint8Array> {
    await this.flush();
    return viewOf(tensor).slice();
  }

  async readKvPage(cache: KvCache, page: number): Promise<Uint8Array<ArrayBuffer>> {
    await this.flush();
    return readKvPage(cache, page);
  }

  writeKvPage(cache: KvCache, page: number, bytes: Uint8Array): void {
    writeKvPage(cache, page, bytes);
  }

  flush(): Promise<void> {
    const program = this.#recorded;
    this.#recorded = [];
    const done = this.#running.then(() => this.#run(program));
    // The failure belongs to this flush's caller; later flushes only wait for the end.
    this.#running = done.then(() => {}, () => {});
    return done;
  }

  async #run(program: readonly (() => void)[]): Promise<void> {
    let sliceStartMs = this.#clock.nowMs();
    for (const run of program) {
      run();
      if (this.#clock.nowMs() - sliceStartMs < SLICE_MS) continue;
      await new Promise((resolve) => setTimeout(resolve, 0));
      sliceStartMs = this.#clock.nowMs();
    }
  }

  usedBytes(): number {
    let total = 0;
    for (const storage of this.#storages) total += storage.sizeBytes;
    return total;
  }

  async close(): Promise<void> {
    await this.flush();
    this.#storages.clear();
  }
}
