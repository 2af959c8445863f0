import { deepEqual, equal, notDeepEqual, ok } from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { expertBytes, panelBytes } from "@/kernels/matrix_layout.ts";
import { decodeToF32 } from "@/tensor/half.ts";
import { drawPanels, drawsPanels, syntheticTensor } from "./synthetic.ts";

const rms = (values: Float32Array) =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
const mean = (values: Float32Array) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

Deno.test("syntheticTensor() gives the same bytes whole and in pieces", async () => {
  const { source, sizeBytes } = syntheticTensor("decoder.1.up.weight", [24, 40]);
  const whole = await source.read(0, sizeBytes);
  for (const [offset, length] of [[0, 2], [2, 10], [6, 4], [1000, 920], [1918, 2]] as const) {
    deepEqual(await source.read(offset, length), whole.subarray(offset, offset + length));
  }
});

Deno.test("syntheticTensor() draws every name anew, with the deviation of its width", async () => {
  const draw = async (name: string) => {
    const { source, sizeBytes } = syntheticTensor(name, [64, 256]);
    return decodeToF32(await source.read(0, sizeBytes), "BF16");
  };
  const [first, second] = [await draw("decoder.0.up.weight"), await draw("decoder.1.up.weight")];
  notDeepEqual(first, second);
  ok(Math.abs(rms(first) - 1 / 16) < 0.001, `rms ${rms(first)}`);
  const norm = syntheticTensor("decoder.norm.weight", [8]);
  deepEqual([...decodeToF32(await norm.source.read(0, 16), "BF16")], Array(8).fill(1));
});

for (const format of ["q8", "q4"] as const) {
  Deno.test(`drawPanels() draws ${format} of that deviation and of zero mean`, async () => {
    const [rows, columns] = [512, 256];
    const tensor = syntheticTensor("decoder.1.up.weight", [rows, columns]);
    const bytes = new Uint8Array(expertBytes({ format, rows, columns }));
    drawPanels(tensor, { format, firstRow: 0, columns }, bytes);
    const backend = openReferenceBackend();
    const matrix = backend.createMatrix({ format, rows, columns });
    backend.writePanels(matrix, { firstPanel: 0, bytes });
    const rowIndex = backend.allocate("i32", [rows]);
    backend.write(rowIndex, Int32Array.from({ length: rows }, (_, i) => i));
    const out = backend.allocate("f32", [rows, columns]);
    backend.ops.gatherRows({ table: matrix, rowIndex, out });
    const values = await backend.read(out) as Float32Array;
    ok(Math.abs(rms(values) * 16 - 1) < 0.01, `rms ${rms(values)}`);
    ok(Math.abs(mean(values)) * 16 < 0.01, `mean ${mean(values)}`);
  });

  Deno.test(`drawPanels() gives the same ${format} panels whole and in pieces`, () => {
    const columns = 64;
    const tensor = syntheticTensor("decoder.1.up.weight", [64, columns]);
    const size = panelBytes({ format, columns });
    const whole = new Uint8Array(8 * size);
    drawPanels(tensor, { format, firstRow: 0, columns }, whole);
    const part = new Uint8Array(3 * size);
    drawPanels(tensor, { format, firstRow: 32, columns }, part);
    deepEqual(part, whole.slice(4 * size, 7 * size));
  });
}

Deno.test("drawsPanels() leaves padded shapes and plain formats to rounding", () => {
  const tensor = syntheticTensor("decoder.1.up.weight", [64, 64]);
  const place = { format: "q4", firstRow: 0, rows: 64, columns: 64 } as const;
  equal(drawsPanels(tensor, place), true);
  equal(drawsPanels(tensor, { ...place, format: "bf16" }), false);
  equal(drawsPanels(tensor, { ...place, rows: 60 }), false);
  equal(drawsPanels(tensor, { ...place, firstRow: 4 }), false);
  equal(drawsPanels(tensor, { ...place, columns: 48 }), false);
});
