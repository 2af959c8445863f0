import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { seededRandom } from "@/random.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import type { Backend, Matrix, MatrixFormat } from "../backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "./backend.ts";

const formats: readonly MatrixFormat[] = ["f32", "bf16", "f16", "q8", "q4"];

function randomFloats(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}

async function withBackend(
  options: WasmBackendOptions,
  work: (backend: Backend) => Promise<void>,
): Promise<void> {
  const backend = await openWasmBackend(options);
  try {
    await work(backend);
  } finally {
    await backend.close();
  }
}

async function packedMatrix(
  backend: Backend,
  shape: { format: MatrixFormat; rows: number; columns: number; values: Float32Array },
): Promise<Matrix> {
  const matrix = backend.createMatrix(shape);
  const bytes = new Uint8Array(shape.values.buffer);
  const part = { firstRow: 0, rowCount: shape.rows, bytes, dtype: "F32" } as const;
  await backend.packRows(matrix, part);
  return matrix;
}

/** Rows [first, first + count) of the input through the matrix. */
async function product(
  backend: Backend,
  matrix: Matrix,
  part: { values: Float32Array; first: number; count: number },
): Promise<Float32Array> {
  const { values, first, count } = part;
  const { rows, columns } = matrix;
  const input = backend.allocate("f32", [count, columns]);
  const out = backend.allocate("f32", [count, rows]);
  backend.write(input, values.subarray(first * columns, (first + count) * columns));
  backend.ops.matmul({ input, weight: matrix, out });
  const result = await backend.read(out) as Float32Array;
  backend.free(input);
  backend.free(out);
  return result;
}

Deno.test("matmul() matches a naive product at large shapes", async () => {
  const [rowCount, columns, rows] = [37, 1027, 1201];
  const input = randomFloats(rowCount * columns, 1);
  const weight = randomFloats(rows * columns, 2);
  await withBackend({ threads: 2 }, async (backend) => {
    const matrix = await packedMatrix(backend, { format: "f32", rows, columns, values: weight });
    const out = await product(backend, matrix, { values: input, first: 0, count: rowCount });
    for (let r = 0; r < rowCount; r++) {
      for (let n = r % 3; n < rows; n += 3) {
        let sum = 0;
        for (let k = 0; k < columns; k++) sum += input[r * columns + k]! * weight[n * columns + k]!;
        assert.ok(Math.abs(out[r * rows + n]! - sum) < 1e-4, `row ${r} output ${n}`);
      }
    }
  });
});

Deno.test("matmul() gives a row the same bits alone, in a batch of 17, and with 1 to 3 threads", async () => {
  const [columns, rows] = [200, 300];
  const values = randomFloats(17 * columns, 3);
  const weights = randomFloats(rows * columns, 4);
  for (const format of formats) {
    const results: Float32Array[] = [];
    for (const threads of [1, 2, 3]) {
      await withBackend({ threads }, async (backend) => {
        const matrix = await packedMatrix(backend, { format, rows, columns, values: weights });
        const batch = await product(backend, matrix, { values, first: 0, count: 17 });
        results.push(batch);
        for (const [first, count] of [[0, 1], [16, 1], [3, 2], [5, 3], [9, 7]] as const) {
          const part = await product(backend, matrix, { values, first, count });
          assert.deepEqual(part, batch.slice(first * rows, (first + count) * rows), format);
        }
      });
    }
    assert.deepEqual(results[1], results[0], format);
    assert.deepEqual(results[2], results[0], format);
  }
});

Deno.test("the simd variants give the same bits with and without threads", async () => {
  const [columns, rows] = [129, 65];
  const values = randomFloats(6 * columns, 5);
  const weights = randomFloats(rows * columns, 6);
  const results: Float32Array[] = [];
  const classes = new Set<string>();
  for (const variant of ["simd", "simd-threads"] as const) {
    await withBackend({ variant, threads: 3 }, async (backend) => {
      const shape = { format: "q8", rows, columns, values: weights } as const;
      const matrix = await packedMatrix(backend, shape);
      results.push(await product(backend, matrix, { values, first: 0, count: 6 }));
      classes.add(backend.description.numericClass);
    });
  }
  assert.deepEqual(results[0], results[1]);
  assert.equal(classes.size, 1);
});

Deno.test("packRows() gives the same matrix in any cut and order", async () => {
  const [columns, rows] = [45, 29];
  const weights = randomFloats(rows * columns, 7);
  const values = randomFloats(columns, 8);
  await withBackend({ threads: 2 }, async (backend) => {
    for (const format of formats) {
      const whole = await packedMatrix(backend, { format, rows, columns, values: weights });
      const cut = backend.createMatrix({ format, rows, columns });
      for (const [firstRow, rowCount] of [[20, 9], [3, 1], [4, 16], [0, 3]] as const) {
        const bytes = new Uint8Array(
          weights.buffer,
          firstRow * columns * 4,
          rowCount * columns * 4,
        );
        await backend.packRows(cut, { firstRow, rowCount, bytes, dtype: "F32" });
      }
      const part = { values, first: 0, count: 1 };
      assert.deepEqual(await product(backend, cut, part), await product(backend, whole, part));
    }
  });
});

Deno.test("flush() leaves the event loop free while the team computes", async () => {
  await withBackend({ threads: 1 }, async (backend) => {
    const [rowCount, width] = [128, 1024];
    const values = randomFloats(width * width, 9);
    const matrix = await packedMatrix(backend, {
      format: "f32",
      rows: width,
      columns: width,
      values,
    });
    const input = backend.allocate("f32", [rowCount, width]);
    const out = backend.allocate("f32", [rowCount, width]);
    for (let i = 0; i < 60; i++) backend.ops.matmul({ input, weight: matrix, out });
    const gaps: number[] = [];
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      gaps.push(now - last);
      last = now;
    }, 1);
    const start = performance.now();
    const flushed = backend.flush();
    const recordedMs = performance.now() - start;
    await flushed;
    const flushMs = performance.now() - start;
    clearInterval(timer);
    assert.ok(flushMs > 100, `too short to tell: ${flushMs} ms`);
    assert.ok(recordedMs < 20, `flush() itself took ${recordedMs} ms`);
    gaps.sort((a, b) => a - b);
    // Other processes may hold this thread up now and then; the computation may not.
    assert.ok(gaps[Math.floor(gaps.length / 2)]! < 10, `median gap of ${gaps.length}: ${gaps}`);
  });
});

Deno.test("flush() runs programs larger than one command chunk in order", async () => {
  await withBackend({ threads: 2 }, async (backend) => {
    const left = backend.allocate("f32", [3]);
    const right = backend.allocate("f32", [1]);
    backend.write(right, new Float32Array([1]));
    for (let i = 0; i < 2500; i++) backend.ops.add({ left, right, out: left });
    const first = backend.flush();
    for (let i = 0; i < 10; i++) backend.ops.add({ left, right: left, out: left });
    await Promise.all([first, backend.flush()]);
    assert.deepEqual([...await backend.read(left)], Array(3).fill(2500 * 1024));
  });
});

Deno.test("free() keeps memory alive that recorded ops still use", async () => {
  await withBackend({ threads: 2 }, async (backend) => {
    const out = backend.allocate("f32", [1000]);
    const before = backend.usedBytes();
    const left = backend.allocate("f32", [1000]);
    backend.write(left, new Float32Array(1000).fill(2));
    backend.ops.add({ left, right: left, out });
    backend.free(left);
    assert.equal(backend.usedBytes(), before);
    const other = backend.allocate("f32", [1000]);
    backend.write(other, new Float32Array(1000).fill(9));
    assert.ok((await backend.read(out)).every((value) => value === 4));
    assert.throws(() => backend.free(left), /freed/);
    assert.throws(() => backend.ops.gelu({ input: left, out }), /freed/);
  });
});

Deno.test("allocate() reports exhausted memory and the backend goes on", async () => {
  const bounded = [
    { variant: "simd" },
    { variant: "simd-threads" },
    // A small need gives the 4 GiB that the others have.
    { variant: "relaxed-threads-64", memoryBytes: 2 ** 30 },
  ] as const;
  for (const options of bounded) {
    await withBackend({ ...options, threads: 1 }, async (backend) => {
      const held: Tensor[] = [];
      const shape = [2 ** 26, 4]; // 1 GiB
      await assert.rejects(async () => {
        for (let i = 0; i < 5; i++) {
          held.push(await Promise.resolve(backend.allocate("f32", shape)));
        }
      }, (error) => {
        assert.ok(error instanceof OperatingError);
        assert.equal(error.code, "unavailable");
        assert.match(
          error.message,
          /^Cannot allocate 1073741824 bytes: .* \(307\d MiB in use, bound \d+ MiB\)$/,
        );
        return true;
      });
      const last = sliceRows(held.at(-1)!, shape[0]! - 1, 1);
      backend.write(last, new Float32Array([1, 2, 3, 4]));
      backend.ops.add({ left: last, right: last, out: last });
      assert.deepEqual([...await backend.read(last)], [2, 4, 6, 8]);
    });
  }
});

Deno.test("flush() rejects with the reason when an index leaves its table, and never hangs", async () => {
  for (const options of [{ variant: "simd" }, { threads: 3 }] as const) {
    await withBackend(options, async (backend) => {
      const table = backend.createMatrix({ format: "f32", rows: 4, columns: 8 });
      const rowIndex = backend.allocate("i32", [2]);
      const out = backend.allocate("f32", [2, 8]);
      backend.write(rowIndex, new Int32Array([1, 77]));
      backend.ops.gatherRows({ table, rowIndex, out });
      await assert.rejects(backend.flush(), /Assertion failed: row index 77 is out of range/);
      backend.ops.add({ left: out, right: out, out });
      await assert.rejects(backend.flush(), /row index 77/);
    });
  }
});

Deno.test("flush() of a short program gives the bits of the thread, on the calling one", async () => {
  for (const threads of [1, 2]) {
    await withBackend({ threads }, async (backend) => {
      const [input, out] = [0, 1].map(() => backend.allocate("f32", [2, 64])) as [Tensor, Tensor];
      const values = Float32Array.from({ length: 128 }, (_, i) => Math.sin(i) * (1 + i % 7));
      const results: unknown[] = [];
      for (const isShort of [false, true, false, true]) {
        backend.write(input, values);
        backend.ops.swiglu({ gate: input, up: input, out });
        const flushed = backend.flush({ isShort });
        backend.ops.swiglu({ gate: out, up: input, out });
        await flushed;
        results.push(await backend.read(out));
      }
      for (const result of results) assert.deepEqual(result, results[0]);
    });
  }
});

Deno.test("flush() of a short program says why it failed, and so do all later ones", async () => {
  await withBackend({ threads: 1 }, async (backend) => {
    const table = backend.createMatrix({ format: "f32", rows: 4, columns: 8 });
    const rowIndex = backend.allocate("i32", [1]);
    const out = backend.allocate("f32", [1, 8]);
    backend.write(rowIndex, new Int32Array([77]));
    backend.ops.gatherRows({ table, rowIndex, out });
    await assert.rejects(backend.flush({ isShort: true }), /row index 77 is out of range/);
    for (const isShort of [true, false]) {
      backend.ops.add({ left: out, right: out, out });
      await assert.rejects(backend.flush({ isShort }), /row index 77/);
    }
  });
});

Deno.test("openWasmBackend() rejects when a thread cannot start", async () => {
  const empty = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
  await assert.rejects(
    openWasmBackend({ threads: 2, modules: { "simd-threads": empty } }),
    /^OperatingError: Cannot compute: a kernel thread failed$/,
  );
  await assert.rejects(openWasmBackend({ threads: 0 }), /Cannot start 0 kernel threads/);
});

Deno.test("two backends in one process do not share anything", async () => {
  for (const variant of ["simd", "relaxed-threads"] as const) {
    await withBackend(
      { variant, threads: 1 },
      (one) =>
        withBackend({ variant, threads: 1 }, async (two) => {
          const [a, b] = [one, two].map((backend) => backend.allocate("f32", [4]));
          one.write(a!, new Float32Array(4).fill(1));
          two.write(b!, new Float32Array(4).fill(5));
          one.ops.add({ left: a!, right: a!, out: a! });
          two.ops.add({ left: b!, right: b!, out: b! });
          assert.deepEqual([...await one.read(a!)], [2, 2, 2, 2]);
          assert.deepEqual([...await two.read(b!)], [10, 10, 10, 10]);
          assert.throws(() => one.ops.gelu({ input: b!, out: b! }), /another backend/);
        }),
    );
  }
});
