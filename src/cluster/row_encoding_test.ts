import assert from "node:assert/strict";
import { quantizeActivationGroup } from "@/kernels/reference/quantize.ts";
import { seededRandom } from "@/random.ts";
import { decodeRows, encodeRows, type RowEncodingName, rowEncodings } from "./row_encoding.ts";

const GROUP_WIDTH = 32;

function roundTrip(name: RowEncodingName, row: Float32Array): Float32Array {
  const encoding = rowEncodings[name];
  const width = row.length;
  const out = new Uint8Array(encoding.rowBytes(width));
  encodeRows(encoding, { source: row, rowIndex: [0], width, out });
  return decodeRows(encoding, out, { rowCount: 1, width });
}

/** What the kernel reads of a row: codes and scales of all groups, scales by their bits. */
function kernelView(row: Float32Array): { codes: number[]; scales: number[] } {
  const codes = new Int8Array(row.length);
  const scales = new Float32Array(Math.ceil(row.length / GROUP_WIDTH));
  for (let group = 0; group < scales.length; group++) {
    const [from, to] = [group * GROUP_WIDTH, (group + 1) * GROUP_WIDTH];
    scales[group] = quantizeActivationGroup(row.subarray(from, to), codes.subarray(from, to));
  }
  return { codes: [...codes], scales: [...new Uint32Array(scales.buffer)] };
}

/** Rows with all magnitudes of float32, ties, zeros, subnormals and lone outliers. */
function difficultRow(random: () => number, width: number): Float32Array {
  const kind = Math.floor(random() * 5);
  const scale = 2 ** Math.floor(random() * 250 - 125);
  return Float32Array.from({ length: width }, () => {
    const value = (random() * 2 - 1) * scale;
    if (kind === 0) return value;
    if (kind === 1) return random() < 0.9 ? 0 : value;
    if (kind === 2) return Math.round(random() * 254 - 127) / 2; // ties
    if (kind === 3) return random() < 0.05 ? value * 1e6 : value;
    return value * 2 ** -Math.floor(random() * 40);
  });
}

Deno.test("int8 rows give the kernel the codes and scales of the original row, bit for bit", () => {
  const random = seededRandom(5);
  for (let i = 0; i < 2000; i++) {
    const row = difficultRow(random, 1 + Math.floor(random() * 100));
    assert.deepEqual(kernelView(roundTrip("int8", row)), kernelView(row), `row ${i}`);
  }
});

Deno.test("int8 rows carry infinities, NaN, zeros and the smallest numbers", () => {
  const tiny = 2 ** -149;
  const special = [[Infinity, 1, -Infinity], [NaN, 1, 2], [0, -0], [tiny, -tiny, 0], [tiny * 255]];
  for (const values of special) {
    const row = Float32Array.from({ length: 40 }, (_, i) => values[i % values.length]!);
    assert.deepEqual(kernelView(roundTrip("int8", row)), kernelView(row), String(values));
  }
});

Deno.test("f32 rows keep every bit and bf16 rows are the nearest bfloat16", () => {
  const row = Float32Array.of(1, -0, 1e-45, 3.4e38, Infinity, 1.00390625, -2.5);
  const bits = (values: Float32Array) => [...new Uint32Array(values.slice().buffer)];
  assert.deepEqual(bits(roundTrip("f32", row)), bits(row));
  assert.deepEqual([...roundTrip("bf16", Float32Array.of(1.00390625, 2.5, NaN))], [1, 2.5, NaN]);
});

Deno.test("rowBytes() is what it promises at width 2048, and a multiple of 4 at odd widths", () => {
  const sizes = Object.values(rowEncodings).map((encoding) => encoding.rowBytes(2048));
  assert.deepEqual(sizes, [8192, 2304, 4096]);
  for (const encoding of Object.values(rowEncodings)) {
    for (const width of [1, 2, 3, 31, 33, 65]) {
      assert.equal(encoding.rowBytes(width) % 4, 0);
      assert.equal(roundTrip(encoding.name, new Float32Array(width).fill(2)).at(-1), 2);
    }
  }
});

Deno.test("encodeRows() gathers rows by index", () => {
  const source = Float32Array.of(1, 2, 3, 4, 5, 6);
  const out = new Uint8Array(16);
  encodeRows(rowEncodings.f32, { source, rowIndex: [2, 0], width: 2, out });
  const rows = decodeRows(rowEncodings.f32, out, { rowCount: 2, width: 2 });
  assert.deepEqual([...rows], [5, 6, 1, 2]);
});
