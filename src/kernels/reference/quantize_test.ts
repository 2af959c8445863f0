import assert from "node:assert/strict";
import { quantizeActivationGroup, quantizeKeyGroup, quantizeWeightGroup } from "./quantize.ts";

function codesOf(
  quantize: (values: Float32Array, codes: Int8Array) => number,
  values: readonly number[],
): { scale: number; codes: number[] } {
  const codes = new Int8Array(values.length).fill(99);
  const scale = quantize(Float32Array.from(values), codes);
  return { scale, codes: Array.from(codes) };
}

const weights = (format: "q8" | "q4") => (values: Float32Array, codes: Int8Array) =>
  quantizeWeightGroup(values, codes, format);

Deno.test("quantizeWeightGroup() finds values that are whole multiples of a scale", () => {
  assert.deepEqual(codesOf(weights("q4"), [-8, 7, 3, -1, 0]), {
    scale: 1,
    codes: [-8, 7, 3, -1, 0],
  });
  // The extreme takes the lowest code, so a positive one makes the scale negative.
  assert.deepEqual(codesOf(weights("q4"), [4, -3.5, 0.5]), { scale: -0.5, codes: [-8, 7, -1] });
  assert.deepEqual(codesOf(weights("q8"), [-32, 31.5, 0.5]), { scale: 0.5, codes: [-64, 63, 1] });
});

Deno.test("quantizeWeightGroup() leaves a smaller error than the largest magnitude as scale", () => {
  const values = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i * i));
  const codes = new Int8Array(32);
  const errorOf = (scale: number) =>
    values.reduce((sum, value, i) => sum + (value - scale * codes[i]!) ** 2, 0);
  const fitted = errorOf(weights("q4")(values, codes));
  const largest = Math.max(...values.map(Math.abs));
  values.forEach((value, i) => codes[i] = Math.round(value / largest * 7));
  assert.ok(fitted < 0.85 * errorOf(largest / 7), `${fitted} of ${errorOf(largest / 7)}`);
});

Deno.test("quantizeWeightGroup() gives zeros when the group vanishes", () => {
  for (const format of ["q8", "q4"] as const) {
    assert.deepEqual(codesOf(weights(format), [0, -0]), { scale: 0, codes: [0, 0] });
    assert.deepEqual(codesOf(weights(format), [1e-45, 0]), { scale: 0, codes: [0, 0] });
  }
});

Deno.test("quantizeActivationGroup() maps the largest magnitude to 127", () => {
  assert.deepEqual(codesOf(quantizeActivationGroup, [-254, 1, 3, 127, 5]), {
    scale: 2,
    codes: [-127, 0, 2, 64, 2],
  });
  assert.deepEqual(codesOf(quantizeActivationGroup, [0, 0]), { scale: 0, codes: [0, 0] });
});

Deno.test("quantizeActivationGroup() lets NaN through as the scale", () => {
  assert.ok(Number.isNaN(codesOf(quantizeActivationGroup, [1, NaN, 2]).scale));
});

Deno.test("quantizeKeyGroup() maps the largest magnitude to 63, by a scale in bfloat16", () => {
  assert.deepEqual(codesOf(quantizeKeyGroup, [-126, 1, 3, 63, 4.9]), {
    scale: 2,
    codes: [-63, 0, 2, 32, 2],
  });
  assert.deepEqual(codesOf(quantizeKeyGroup, [0, -0]), { scale: 0, codes: [0, 0] });
  assert.deepEqual(codesOf(quantizeKeyGroup, [1e-40, 0]).codes, [0, 0]);
});
