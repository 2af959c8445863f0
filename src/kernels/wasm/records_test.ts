import assert from "node:assert/strict";
import { instantiateKernels } from "./instance.ts";
import { RECORD_BYTES, recordTable, tableHash, writeRecord } from "./records.ts";
import { loadModule } from "./variant.ts";

Deno.test("recordTable is the table that the single-threaded kernels were built from", async () => {
  const kernels = instantiateKernels(await loadModule("simd", {}));
  assert.equal(kernels.table_hash() >>> 0, tableHash());
});

Deno.test("recordTable fits every op into a record", () => {
  for (const [name, slots] of Object.entries(recordTable)) {
    assert.ok(8 * (1 + slots.length) <= RECORD_BYTES, name);
    assert.equal(new Set(slots).size, slots.length, name);
  }
});

Deno.test("writeRecord() writes opcode, both words of integers, and floats", () => {
  const buffer = new ArrayBuffer(1024);
  const memory = { words: new Uint32Array(buffer), floats: new Float32Array(buffer) };
  memory.words.fill(0xffffffff);
  const slots = { rows: 3, width: 2 ** 32 + 5, input: 2 ** 33, weight: 4, epsilon: 0.5, out: 6 };
  writeRecord(memory, 256, { name: "rmsNorm", slots });
  assert.deepEqual([...memory.words.subarray(64, 72)], [6, 0, 3, 0, 5, 1, 0, 2]);
  assert.equal(memory.floats[64 + 10], 0.5);
  assert.equal(memory.words[64 + 11], 0);
});

Deno.test("writeRecord() refuses negative and fractional integers", () => {
  const buffer = new ArrayBuffer(1024);
  const memory = { words: new Uint32Array(buffer), floats: new Float32Array(buffer) };
  for (const count of [-1, 0.5, NaN]) {
    const record = { name: "gelu", slots: { count, input: 0, out: 0 } } as const;
    assert.throws(() => writeRecord(memory, 0, record), /gelu.count/);
  }
});
