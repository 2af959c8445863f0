/** Properties of whole recorded programs and of the backend's own contract. */
import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import type { Backend, Matrix, MatrixFormat } from "@/kernels/backend.ts";
import { panelBytes, panelCount } from "@/kernels/matrix_layout.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import { optionalTest } from "../skip.ts";
import { backendEntries, fastEntries, referenceEntry } from "./backends.ts";
import { Bench, pickRows } from "./case.ts";
import { Draw, encodeFile } from "./naive.ts";

const [WIDTH, INNER, EXPERTS, CHOICES] = [40, 24, 6, 2];

interface MoeWeights {
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
  readonly norm: Tensor;
}

async function drawWeights(bench: Bench, format: MatrixFormat): Promise<MoeWeights> {
  const draw = new Draw(31);
  const host = (experts: number, rows: number, columns: number) => ({
    experts,
    rows,
    columns,
    values: draw.normals(experts * rows * columns, 0.5),
  });
  return {
    gate: await bench.matrix(host(1, EXPERTS, WIDTH), "f32"),
    up: await bench.matrix(host(EXPERTS, INNER, WIDTH), format),
    down: await bench.matrix(host(EXPERTS, WIDTH, INNER), format),
    norm: bench.f32(draw.normals(WIDTH), [WIDTH]),
  };
}

/** Records norm, routing, two expert products and the residual sum; `after` runs after each op. */
async function moeLayers(
  bench: Bench,
  options: { input: Float32Array; weights: MoeWeights; after: () => Promise<void> },
): Promise<Float32Array> {
  const { input, weights, after } = options;
  const rows = input.length / WIDTH;
  const { ops } = bench.backend;
  const pairs = rows * CHOICES;
  const hidden = bench.f32(input, [rows, WIDTH]);
  const normed = bench.out("f32", [rows, WIDTH]);
  const logits = bench.out("f32", [rows, EXPERTS]);
  const expertIndex = bench.out("i32", [rows, CHOICES]);
  const expertWeight = bench.out("f32", [rows, CHOICES]);
  const expertStart = bench.out("i32", [EXPERTS + 1]);
  const groupedPair = bench.out("i32", [pairs]);
  const pairPlace = bench.out("i32", [pairs]);
  const inner = bench.out("f32", [pairs, INNER]);
  const outer = bench.out("f32", [pairs, WIDTH]);
  const { gate, up, down, norm } = weights;
  const routed = { expertStart, groupedPair };
  for (let layer = 0; layer < 3; layer++) {
    const program = [
      () => ops.rmsNorm({ input: hidden, weight: norm, epsilon: 1e-6, out: normed }),
      () => ops.matmul({ input: normed, weight: gate, out: logits }),
      () => ops.gateTopK({ logits, k: CHOICES, normalize: true, expertIndex, expertWeight }),
      () => ops.groupByExpert({ expertIndex, experts: EXPERTS, pairPlace, ...routed }),
      () =>
        ops.expertMatmul({ input: normed, weight: up, choices: CHOICES, out: inner, ...routed }),
      () => ops.gelu({ input: inner, out: inner }),
      () => ops.expertMatmul({ input: inner, weight: down, out: outer, ...routed }),
      () => ops.combineRows({ input: outer, pairPlace, expertWeight, out: normed }),
      () => ops.add({ left: hidden, right: normed, out: hidden }),
    ];
    for (const record of program) {
      record();
      await after();
    }
  }
  return await bench.backend.read(hidden) as Float32Array;
}

function runMoe(
  backend: Backend,
  options: { input: Float32Array; format: MatrixFormat; flushEach?: boolean },
): Promise<Float32Array> {
  return withBench(backend, async (bench) => {
    const weights = await drawWeights(bench, options.format);
    const after = options.flushEach ? () => backend.flush() : () => Promise.resolve();
    return await moeLayers(bench, { input: options.input, weights, after });
  });
}

async function withBench<T>(backend: Backend, use: (bench: Bench) => Promise<T>): Promise<T> {
  const bench = new Bench(backend);
  try {
    return await use(bench);
  } finally {
    await bench.close();
  }
}

for (const entry of backendEntries) {
  optionalTest({
    name: `${entry.label} expert layers give a row the same bits alone and in a batch`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const rows = 37;
    const input = new Draw(32).normals(rows * WIDTH);
    for (const format of ["f32", "q8", "q4"] as const) {
      const whole = await runMoe(backend, { input, format });
      for (const picked of [[0], [36], [17, 3], [30, 8, 9, 10, 11, 12, 13, 14, 15]]) {
        const alone = await runMoe(backend, { input: pickRows(input, WIDTH, picked), format });
        assert.deepEqual(alone, pickRows(whole, WIDTH, picked), `${format} rows ${picked}`);
      }
    }
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} flush() once gives the bits of a flush after every op`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    for (const rows of [1, 2, 19]) {
      const input = new Draw(33).normals(rows * WIDTH);
      const once = await runMoe(backend, { input, format: "f32" });
      const each = await runMoe(backend, { input, format: "f32", flushEach: true });
      assert.deepEqual(once, each);
    }
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} flush() runs several programs in the order of their calls`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    await withBench(backend, async (bench) => {
      const x = bench.f32([1, 2, 3], [3]);
      const one = bench.f32([1], [1]);
      const flushes = Array.from({ length: 8 }, () => {
        backend.ops.add({ left: x, right: one, out: x });
        backend.ops.add({ left: x, right: x, out: x });
        return backend.flush();
      });
      await Promise.all(flushes);
      const expected = [1, 2, 3].map((v) => 256 * v + 510);
      assert.deepEqual(Array.from(await backend.read(x)), expected);
      await backend.flush();
    });
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} allocate() gives zeros that write() and read() change and return`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    await withBench(backend, async () => {
      const samples = {
        f32: Float32Array.of(1.5, -0, NaN, Infinity, 1e-45, -3e38),
        i32: Int32Array.of(-1, 2147483647, -2147483648, 0, 5, 6),
        u8: Uint8Array.of(0, 255, 128, 1, 2, 3),
      };
      for (const [dtype, values] of Object.entries(samples)) {
        const tensor = backend.allocate(dtype as keyof typeof samples, [3, 2]);
        const zeros = await backend.read(tensor);
        assert.deepEqual(zeros, values.map(() => 0));
        backend.write(tensor, values);
        const copy = await backend.read(tensor);
        assert.deepEqual(copy, values);
        assert.deepEqual(await backend.read(sliceRows(tensor, 1, 2)), values.slice(2));
        copy.fill(9);
        assert.deepEqual(await backend.read(tensor), values, "read() must return a copy");
        backend.write(sliceRows(tensor, 2, 1), values.slice(0, 2));
        assert.deepEqual((await backend.read(tensor)).slice(4), values.slice(0, 2));
        backend.free(tensor);
      }
    });
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} usedBytes() follows allocations, and reused memory is zero again`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const before = backend.usedBytes();
    for (let round = 0; round < 20; round++) {
      const tensor = backend.allocate("f32", [100 + round]);
      assert.ok(backend.usedBytes() >= before + 400 + 4 * round);
      assert.ok((await backend.read(tensor)).every((value) => value === 0));
      backend.write(tensor, new Float32Array(100 + round).fill(7));
      const matrix = backend.createMatrix({ format: "q8", rows: 9, columns: 33 });
      const cache = backend.createKvCache({
        format: "f16",
        layers: 1,
        pages: 2,
        pageTokens: 4,
        kvHeads: 1,
        headWidth: 8,
      });
      for (const item of [matrix, tensor, cache]) backend.free(item);
      assert.equal(backend.usedBytes(), before);
    }
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} allocate() refuses what memory cannot hold`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const before = backend.usedBytes();
    assert.throws(
      () => backend.allocate("f32", [2 ** 42]),
      (error) => error instanceof OperatingError && error.code === "unavailable",
    );
    assert.equal(backend.usedBytes(), before);
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} packRows() takes rows in any order and of any file type`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const [rows, columns] = [11, 37];
    const values = new Draw(34).normals(rows * columns).map(Math.f16round);
    const input = new Draw(35).normals(2 * columns);
    for (const file of ["F32", "F16"] as const) {
      const results: ArrayLike<number>[] = [];
      for (const order of [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], new Draw(36).shuffled(rows)]) {
        await withBench(backend, async (bench) => {
          const matrix = backend.createMatrix({ format: "f32", rows, columns });
          for (const row of order) {
            const bytes = encodeFile(values.subarray(row * columns, (row + 1) * columns), file);
            await backend.packRows(matrix, { firstRow: row, rowCount: 1, bytes, dtype: file });
          }
          const out = bench.out("f32", [2, rows]);
          backend.ops.matmul({ input: bench.f32(input, [2, columns]), weight: matrix, out });
          results.push(await backend.read(out));
          backend.free(matrix);
        });
      }
      assert.deepEqual(results[0], results[1]);
    }
    await backend.close();
  });
}

const packedFormats: readonly MatrixFormat[] = ["f32", "bf16", "f16", "q8", "q4"];

/** A packed matrix of two experts, its bytes in the layout of all backends, and a product. */
async function packAndMultiply(
  backend: Backend,
  format: MatrixFormat,
  given?: Uint8Array,
): Promise<{ bytes: Uint8Array; product: Float32Array; again: Uint8Array }> {
  const [experts, rows, columns] = [2, 21, 77];
  const values = new Draw(37).normals(experts * rows * columns);
  return await withBench(backend, async (bench) => {
    const matrix = await bench.matrix({ experts, rows, columns, values }, format);
    const panels = panelCount(matrix);
    const size = panelBytes(matrix);
    const parts = await Promise.all(Array.from(
      { length: experts },
      (_, expert) => backend.readPanels(matrix, { expert, firstPanel: 0, panelCount: panels }),
    ));
    const bytes = given ?? Uint8Array.from(parts.flatMap((part) => [...part]));
    const copy = backend.createMatrix({ format, experts, rows, columns });
    for (let panel = experts * panels - 1; panel >= 0; panel--) {
      const part = { expert: Math.floor(panel / panels), firstPanel: panel % panels };
      backend.writePanels(copy, {
        ...part,
        bytes: bytes.subarray(panel * size, (panel + 1) * size),
      });
    }
    const out = bench.out("f32", [experts * 2, rows]);
    backend.ops.expertMatmul({
      input: bench.f32(new Draw(38).normals(experts * 2 * columns), [experts * 2, columns]),
      weight: copy,
      expertStart: bench.i32([0, 2, 4], [3]),
      groupedPair: bench.i32([0, 1, 2, 3], [4]),
      out,
    });
    const product = await backend.read(out) as Float32Array;
    const again = await backend.readPanels(copy, { expert: 1, firstPanel: 1, panelCount: 2 });
    backend.free(copy);
    return { bytes, product, again };
  });
}

for (const entry of fastEntries) {
  optionalTest({
    name: `${entry.label} readPanels() gives the reference's bytes, and writePanels() takes them`,
    needs: entry.needs,
  }, async () => {
    const [reference, backend] = [await referenceEntry.open(), await entry.open()];
    for (const format of packedFormats) {
      const expected = await packAndMultiply(reference, format);
      const actual = await packAndMultiply(backend, format);
      assert.deepEqual(actual.bytes, expected.bytes, format);
      assert.deepEqual(actual.again, expected.again, format);
      const crossed = await packAndMultiply(backend, format, expected.bytes);
      assert.deepEqual(crossed.product, actual.product, format);
      const back = await packAndMultiply(reference, format, actual.bytes);
      assert.deepEqual(back.product, expected.product, format);
    }
    await reference.close();
    await backend.close();
  });
}
