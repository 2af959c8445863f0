import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { seededRandom } from "@/random.ts";
import { sliceRows } from "@/tensor/tensor.ts";
import { optionalTest } from "../../../tests/skip.ts";
import type { Backend, MatrixFormat } from "../backend.ts";
import { openWebGpuBackend } from "./backend.ts";
import { adapterObstacle } from "./device.ts";

const webGpu = { tool: "webgpu", missing: await adapterObstacle(navigator.gpu) };

function randomFloats(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}

function gpuTest(name: string, fn: () => Promise<void>): void {
  optionalTest({ name, needs: [webGpu] }, fn);
}

const [experts, rows, columns] = [3, 100, 70];

/** Every op that reads weights, on few rows and on many. */
async function productsOf(backend: Backend, format: MatrixFormat): Promise<Float32Array[]> {
  const values = randomFloats(experts * rows * columns, 1);
  const table = backend.createMatrix({ format, rows, columns });
  const stack = backend.createMatrix({ format, rows, columns, experts });
  for (let expert = 0; expert < experts; expert++) {
    const part = values.subarray(expert * rows * columns, (expert + 1) * rows * columns);
    const bytes = new Uint8Array(part.slice().buffer);
    const file = { firstRow: 0, rowCount: rows, bytes, dtype: "F32" } as const;
    if (expert === 0) await backend.packRows(table, file);
    await backend.packRows(stack, { expert, ...file });
  }
  const outputs: Float32Array[] = [];
  for (const inputRows of [1, 5, 40]) {
    const input = backend.allocate("f32", [inputRows, columns]);
    backend.write(input, randomFloats(inputRows * columns, 2));
    const out = backend.allocate("f32", [inputRows, rows]);
    backend.ops.matmul({ input, weight: table, out });
    outputs.push(await backend.read(out) as Float32Array);
    const expertStart = backend.allocate("i32", [experts + 1]);
    const cut = Math.ceil(inputRows / 2);
    backend.write(expertStart, Int32Array.of(0, cut, cut, inputRows));
    const groupedPair = backend.allocate("i32", [inputRows]);
    backend.write(groupedPair, Int32Array.from({ length: inputRows }, (_, i) => i));
    backend.ops.expertMatmul({ input, weight: stack, expertStart, groupedPair, out });
    outputs.push(await backend.read(out) as Float32Array);
    const gathered = backend.allocate("f32", [inputRows, columns]);
    backend.write(groupedPair, Int32Array.from({ length: inputRows }, (_, i) => 99 - 2 * i));
    backend.ops.gatherRows({ table, rowIndex: groupedPair, out: gathered });
    outputs.push(await backend.read(gathered) as Float32Array);
  }
  return outputs;
}

gpuTest("matmul() with a weight split over bindings gives the bits of a whole one", async () => {
  const whole = await openWebGpuBackend();
  const split = await openWebGpuBackend({ bindingBytesMax: 8192 });
  for (const format of ["f32", "f16", "q8", "q4"] as const) {
    const expected = await productsOf(whole, format);
    assert.deepEqual(await productsOf(split, format), expected, format);
    assert.ok(expected.every((output) => output.every((value) => Number.isFinite(value))));
  }
  await whole.close();
  await split.close();
});

gpuTest(
  "matmul() gives the same bits with every tuning, and without optional features",
  async () => {
    const usual = await openWebGpuBackend();
    const formats = ["f32", "bf16", "f16", "q8", "q4"] as const;
    const expected = await Promise.all(formats.map((format) => productsOf(usual, format)));
    const rowsOf = (rows: 1 | 2 | 4 | 8) => ({ tileRows: [rows, rows, rows, rows] });
    const tunings = [
      { vectorPanels: 2, ...rowsOf(8) },
      { vectorPanels: 4, ...rowsOf(1) },
      { vectorPanels: 1, ...rowsOf(4) },
    ] as const;
    for (const own of tunings) {
      const tuning = { f32: own, bf16: own, f16: own, q8: own, q4: own };
      for (const portable of [false, true]) {
        const backend = await openWebGpuBackend({ tuning, portable });
        for (const [i, format] of formats.entries()) {
          assert.deepEqual(await productsOf(backend, format), expected[i], `${format} ${portable}`);
        }
        await backend.close();
      }
    }
    await usual.close();
  },
);

gpuTest("ops reach tensors of a storage that is larger than one binding", async () => {
  const backend = await openWebGpuBackend({ bindingBytesMax: 4096 });
  const storage = backend.allocate("f32", [100, 64]);
  backend.write(storage, randomFloats(6400, 3));
  const values = await backend.read(storage) as Float32Array;
  const [left, right, out] = [1, 50, 97].map((first) => sliceRows(storage, first, 3));
  backend.ops.add({ left: left!, right: right!, out: out! });
  backend.ops.add({ left: left!, right: left!, out: left! });
  const after = await backend.read(storage) as Float32Array;
  const expected = values.slice();
  for (let i = 0; i < 192; i++) {
    expected[97 * 64 + i] = Math.fround(values[64 + i]! + values[50 * 64 + i]!);
    expected[64 + i] = 2 * values[64 + i]!;
  }
  assert.deepEqual(after, expected);
  await backend.close();
});

gpuTest("allocate() keeps to the memory that it may take", async () => {
  const backend = await openWebGpuBackend({ memoryBytes: 4096 });
  const half = backend.allocate("f32", [512]);
  assert.throws(
    () => backend.allocate("f32", [513]),
    (error) => error instanceof OperatingError && /2048 of 4096 are in use/.test(error.message),
  );
  backend.free(half);
  backend.allocate("f32", [1024]);
  await backend.close();
});
