/** The promise of `row_encoding.ts`, on real kernels: decoded rows give the bits of the originals. */
import assert from "node:assert/strict";
import type { Backend, MatrixFormat } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { seededRandom } from "@/random.ts";
import { decodeRows, encodeRows, type RowEncoding, rowEncodings } from "./row_encoding.ts";

const ROWS = 12;
const COLUMNS = 96;
const OUTPUTS = 40;
const EXPERTS = 3;

/** Output bits of one expert product per row: row r goes to expert r * EXPERTS / ROWS. */
async function expertBits(
  backend: Backend,
  format: MatrixFormat,
  input: Float32Array,
): Promise<number[]> {
  const random = seededRandom(11);
  const weight = backend.createMatrix({
    format,
    rows: OUTPUTS,
    columns: COLUMNS,
    experts: EXPERTS,
  });
  for (let expert = 0; expert < EXPERTS; expert++) {
    const values = Float32Array.from({ length: OUTPUTS * COLUMNS }, () => random() * 2 - 1);
    const bytes = new Uint8Array(values.buffer);
    await backend.packRows(weight, { expert, firstRow: 0, rowCount: OUTPUTS, bytes, dtype: "F32" });
  }
  const rows = backend.allocate("f32", [ROWS, COLUMNS]);
  const out = backend.allocate("f32", [ROWS, OUTPUTS]);
  const expertStart = backend.allocate("i32", [EXPERTS + 1]);
  const groupedPair = backend.allocate("i32", [ROWS]);
  backend.write(rows, input);
  backend.write(expertStart, Int32Array.from([0, 4, 8, 12]));
  backend.write(groupedPair, Int32Array.from({ length: ROWS }, (_, i) => i));
  backend.ops.expertMatmul({ input: rows, weight, expertStart, groupedPair, choices: 1, out });
  const result = await backend.read(out) as Float32Array;
  return [...new Uint32Array(result.slice().buffer)];
}

function overTheWire(encoding: RowEncoding, source: Float32Array): Float32Array {
  const rowIndex = [...Array(ROWS).keys()];
  const out = new Uint8Array(ROWS * encoding.rowBytes(COLUMNS));
  encodeRows(encoding, { source, rowIndex, width: COLUMNS, out });
  return decodeRows(encoding, out, { rowCount: ROWS, width: COLUMNS });
}

async function check(backend: Backend): Promise<void> {
  const random = seededRandom(12);
  const source = Float32Array.from({ length: ROWS * COLUMNS }, () => {
    return (random() + random() + random() - 1.5) * 2 ** Math.floor(random() * 8 - 4);
  });
  for (const format of ["bf16", "q8", "q4"] as const) {
    const local = await expertBits(backend, format, source);
    assert.ok(local.some((bits) => bits !== 0));
    for (const encoding of Object.values(rowEncodings)) {
      const remote = await expertBits(backend, format, overTheWire(encoding, source));
      const exact = encoding.exactFor.includes(format);
      const equal = remote.every((bits, i) => bits === local[i]);
      assert.equal(equal, exact, `${encoding.name} rows with ${format} weights`);
    }
  }
}

Deno.test("exact row encodings give the same bits on the reference kernels", async () => {
  const backend = openReferenceBackend();
  await check(backend);
  await backend.close();
});

Deno.test("exact row encodings give the same bits on the WASM kernels", async () => {
  const backend = await openWasmBackend({ variant: "simd" });
  await check(backend);
  await backend.close();
});
