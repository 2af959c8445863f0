/**
 * Speed of training on this machine: gradient products of the shipped model's shapes beside the peak
 * of float32 that the same threads reach in the same run.
 */
import type { Clock } from "@/clock.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { measureLimits } from "@/kernels/wasm/probe.ts";

/** Rows of a micro-batch, and the linears [outputs, inputs] of nano's tower and decoder. */
const ROWS = 4096;
const shapes = [[128, 128], [768, 128], [128, 768], [344, 128], [128, 344], [700, 128]] as const;

export interface ProductSpeed {
  readonly name: string;
  readonly gflops: number;
  /** Of the peak. */
  readonly fraction: number;
}

export interface TrainingSpeed {
  readonly threads: number;
  readonly peakGflops: number;
  readonly products: readonly ProductSpeed[];
}

/** Measures; takes some ten seconds. */
export async function measureTraining(
  options: { threads?: number; clock: Clock; repeats: number },
): Promise<TrainingSpeed> {
  const { clock, repeats } = options;
  const backend = await openWasmBackend({ ...options, training: true });
  const training = backend.training!;
  try {
    const limits = await measureLimits(backend, { clock, repeats: 3, readBytes: 2 ** 26 });
    const peakGflops = limits.f32Ops / 1e9;
    const products: ProductSpeed[] = [];
    for (const [rows, columns] of shapes) {
      const input = backend.allocate("f32", [ROWS, columns]);
      const outGrad = backend.allocate("f32", [ROWS, rows]);
      const weight = backend.createMatrix({ format: "f32", rows, columns });
      const weightGrad = backend.createMatrix({ format: "f32", rows, columns });
      const inputGrad = backend.allocate("f32", [ROWS, columns]);
      const once = { scale: 1, accumulate: false };
      const ops: Readonly<Record<string, () => void>> = {
        forward: () => backend.ops.matmul({ input, weight, out: outGrad }),
        "by input": () => training.matmulInputGrad({ outGrad, weight, ...once, inputGrad }),
        "by weight": () => training.matmulWeightGrad({ input, outGrad, ...once, weightGrad }),
      };
      for (const [name, record] of Object.entries(ops)) {
        const seconds = await bestSeconds(record, () => backend.flush(), { clock, repeats });
        const gflops = 2 * ROWS * rows * columns / seconds / 1e9;
        const fraction = gflops / peakGflops;
        products.push({ name: `${name} ${columns} to ${rows}`, gflops, fraction });
      }
      for (const item of [input, outGrad, weight, weightGrad, inputGrad]) backend.free(item);
    }
    return { threads: backend.description.threads, peakGflops, products };
  } finally {
    await backend.close();
  }
}

/** The fastest of several runs of a few records each. */
async function bestSeconds(
  record: () => void,
  flush: () => Promise<void>,
  options: { clock: Clock; repeats: number },
): Promise<number> {
  const count = 8;
  let best = Infinity;
  for (let i = 0; i < options.repeats; i++) {
    for (let j = 0; j < count; j++) record();
    const startMs = options.clock.nowMs();
    await flush();
    best = Math.min(best, (options.clock.nowMs() - startMs) / 1000 / count);
  }
  return best;
}
