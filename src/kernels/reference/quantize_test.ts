import assert from "node:assert/strict";
import { quantizeActivationGroup, quantizeWeightGroup } from "./quantize.ts";

function codesOf(
  quantize: (values: Float32Array, codes: Int8Array) => number,
  values: readonly number[],
): { scale: number; codes: number[] } {
  const codes = new Int8Array(values.length).fill(99);
  const scale = quantize(Float32Array.from(values), codes);
  return { scale, codes: Array.from(codes) };
}

Deno.test("quantizeWeightGroup() rounds the scale to bfloat16 and codes to even", () => {
  // 127 / 127 = 1 is a bfloat16, so codes are the rounded values.
  assert.deepEqual(codesOf(quantizeWeightGroup, [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]), {
    scale: 1,
    codes: [127, 0, 2, 2, 0, -2, -2],
  });
  // 127.49 / 127 and 128 / 127 lie between the bfloat16 numbers 1 and 1.0078125.
  assert.deepEqual(codesOf(quantizeWeightGroup, [127.49, -127.49, 126.6]), {
    scale: 1,
    codes: [127, -127, 127],
  });
  assert.deepEqual(codesOf(quantizeWeightGroup, [128, -128, 127]), {
    scale: 1.0078125,
    codes: [127, -127, 126],
  });
});

Deno.test("quantizeWeightGroup() gives zeros when the scale vanishes", () => {
  assert.deepEqual(codesOf(quantizeWeightGroup, [0, -0]), { scale: 0, codes: [0, 0] });
  assert.deepEqual(codesOf(quantizeWeightGroup, [1e-45, 0]), { scale: 0, codes: [0, 0] });
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
