/**
 * Measures which choices of product kernels are fastest on a GPU. Every choice computes the same
 * product so often that the way to the device and back (some 11 ms in Deno) matters little; one is
 * taken instead of the default only when it is clearly faster.
 */
import { type Clock, systemClock } from "@/clock.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Matrix, MatrixFormat } from "../backend.ts";
import { openReferenceBackend } from "../reference/backend.ts";
import { Activations } from "./activations.ts";
import type { Device } from "./device.ts";
import { Machine } from "./machine.ts";
import { Matrices } from "./matrices.ts";
import { productOps } from "./product_ops.ts";
import { blocksOf, TensorStorage } from "./storage.ts";
import {
  defaultTuning,
  type FormatTuning,
  panelChoices,
  rowChoices,
  rowClasses,
  tunedFormats,
  type Tuning,
} from "./tuning.ts";

const WIDTH = 2048;
/** Rows that stand for each class, and for products of few rows. */
const CLASS_ROWS = [16, 32, 96, 256] as const;
const VECTOR_ROWS = 1;
/** How long a choice computes, and by how much it must beat the default. */
const LEAST_MS = 60;
const GAIN_MIN = 1.1;
const DISPATCHES_MAX = 1 << 14;

export interface SearchOptions {
  readonly clock?: Clock;
  /** Rows and columns of the weights. Default: far more workgroups than a GPU runs at a time. */
  readonly width?: number;
}

/** Takes seconds. The device stays open. */
export async function searchTuning(device: Device, options: SearchOptions = {}): Promise<Tuning> {
  const { clock = systemClock, width = WIDTH } = options;
  const machine = new Machine(device, { budgetBytes: Infinity, bindingBytesMax: Infinity });
  const found: Partial<Record<MatrixFormat, FormatTuning>> = {};
  for (const format of tunedFormats) {
    const bench = new ProductBench(machine, { format, clock, width });
    try {
      found[format] = await bench.search();
    } finally {
      bench.free();
    }
  }
  return { ...defaultTuning, ...found };
}

/** One weight, and products with it. */
class ProductBench {
  readonly #machine: Machine;
  readonly #options: { format: MatrixFormat; clock: Clock; width: number };
  readonly #weight: Matrix;
  readonly #input: Tensor;
  readonly #out: Tensor;

  constructor(machine: Machine, options: { format: MatrixFormat; clock: Clock; width: number }) {
    this.#machine = machine;
    this.#options = options;
    const { format, width } = options;
    const packer = openReferenceBackend(); // packs nothing: zeros take as long
    const shape = { format, rows: width, columns: width };
    this.#weight = new Matrices(machine, packer).create(shape);
    this.#input = allocate(machine, [CLASS_ROWS.at(-1)!, width]);
    this.#out = allocate(machine, [CLASS_ROWS.at(-1)!, width]);
  }

  async search(): Promise<FormatTuning> {
    const own = defaultTuning[this.#options.format];
    const vectorPanels = await this.#fastest({
      ...{ rows: VECTOR_ROWS, choices: panelChoices, usual: own.vectorPanels },
      tuned: (vectorPanels) => ({ ...own, vectorPanels }),
    });
    const tileRows: FormatTuning["tileRows"][number][] = [];
    for (const [index, rows] of CLASS_ROWS.entries()) {
      tileRows.push(
        await this.#fastest({
          ...{ rows, choices: rowChoices, usual: own.tileRows[index]! },
          tuned: (perThread) => ({ ...own, tileRows: rowClasses.map(() => perThread) }),
        }),
      );
    }
    return { vectorPanels, tileRows };
  }

  async #fastest<Choice>(args: {
    rows: number;
    choices: readonly Choice[];
    usual: Choice;
    tuned: (choice: Choice) => FormatTuning;
  }): Promise<Choice> {
    const { rows, choices, usual, tuned } = args;
    const dispatches = await this.#calibrate(tuned(usual), rows);
    const usualMs = await this.#time(tuned(usual), { rows, dispatches });
    let best = { choice: usual, ms: usualMs / GAIN_MIN };
    for (const choice of choices) {
      if (choice === usual) continue;
      await this.#time(tuned(choice), { rows, dispatches: 1 }); // compiles
      const ms = await this.#time(tuned(choice), { rows, dispatches });
      if (ms < best.ms) best = { choice, ms };
    }
    return best.choice;
  }

  /** So many dispatches that they take long enough. */
  async #calibrate(tuning: FormatTuning, rows: number): Promise<number> {
    await this.#time(tuning, { rows, dispatches: 1 }); // compiles
    let dispatches = 1;
    while (dispatches < DISPATCHES_MAX) {
      if (await this.#time(tuning, { rows, dispatches }) >= LEAST_MS) break;
      dispatches *= 2;
    }
    return dispatches;
  }

  async #time(
    tuning: FormatTuning,
    { rows, dispatches }: { rows: number; dispatches: number },
  ): Promise<number> {
    const { clock, format } = this.#options;
    const activations = new Activations(this.#machine);
    const ops = productOps(this.#machine, { ...defaultTuning, [format]: tuning }, activations);
    const width = this.#weight.columns;
    const input = { ...this.#input, shape: [rows, width] };
    const out = { ...this.#out, shape: [rows, width] };
    const [block] = blocksOf(out.storage);
    const startMs = clock.nowMs();
    for (let i = 0; i < dispatches; i++) ops.matmul({ input, weight: this.#weight, out });
    await this.#machine.read([{ block: block!, byteOffset: 0, sizeBytes: 4 }]);
    return clock.nowMs() - startMs;
  }

  free(): void {
    for (const { storage } of [this.#input, this.#out, this.#weight]) {
      for (const block of blocksOf(storage)) this.#machine.free(block);
    }
  }
}

function allocate(machine: Machine, shape: readonly [number, number]): Tensor {
  const sizeBytes = 4 * shape[0] * shape[1];
  const storage = new TensorStorage(sizeBytes, machine.allocate(sizeBytes));
  return { dtype: "f32", shape, storage, byteOffset: 0 };
}
