/** Weights above 4 GiB and across that border, computed with as if they lay low. */
import assert from "node:assert/strict";
import type { Backend, MatrixFormat } from "@/kernels/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { WasmStorage } from "@/kernels/wasm/layout.ts";
import { seededRandom } from "@/random.ts";
import { optionalTest } from "../skip.ts";
import { fillMemory, highMemory } from "./backends.ts";

const BORDER = 2 ** 32;
const formats: readonly MatrixFormat[] = ["f32", "bf16", "f16", "q8", "q4"];
/** 4 to 32 MiB by format. */
const [rows, columns] = [2048, 4096];
const inputRows = 5;

function randomFloats(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}

const weights = randomFloats(rows * columns, 1);
const inputs = randomFloats(inputRows * columns, 2);

interface Product {
  readonly address: number;
  readonly sizeBytes: number;
  readonly out: Float32Array;
}

async function productOn(backend: Backend, format: MatrixFormat): Promise<Product> {
  const weight = backend.createMatrix({ format, rows, columns });
  const bytes = new Uint8Array(weights.buffer);
  await backend.packRows(weight, { firstRow: 0, rowCount: rows, bytes, dtype: "F32" });
  const input = backend.allocate("f32", [inputRows, columns]);
  const out = backend.allocate("f32", [inputRows, rows]);
  backend.write(input, inputs);
  backend.ops.matmul({ input, weight, out });
  const values = await backend.read(out) as Float32Array;
  assert.ok(weight.storage instanceof WasmStorage);
  const { address, sizeBytes } = weight.storage;
  for (const item of [weight, input, out]) backend.free(item);
  return { address, sizeBytes, out: values };
}

const places = [{ name: "across", filledTo: BORDER - 3 * 2 ** 20 }, {
  name: "above",
  filledTo: BORDER,
}];

for (const { name, filledTo } of places) {
  optionalTest({
    name: `matmul() with a weight ${name} the 4 GiB border gives the bits of the 32-bit kernels`,
    needs: [highMemory],
  }, async () => {
    const low = await openWasmBackend({ variant: "relaxed-threads", threads: 2 });
    const high = await openWasmBackend({ variant: "relaxed-threads-64", threads: 2 });
    fillMemory(high, filledTo);
    for (const format of formats) {
      const expected = await productOn(low, format);
      const actual = await productOn(high, format);
      assert.ok(actual.address + actual.sizeBytes > BORDER, `${format} at ${actual.address}`);
      assert.equal(actual.address < BORDER, name === "across", `${format} at ${actual.address}`);
      assert.deepEqual(actual.out, expected.out, format);
      assert.ok(actual.out.some((value) => value !== 0));
    }
    assert.equal(high.description.numericClass, low.description.numericClass);
    await low.close();
    await high.close();
  });
}
