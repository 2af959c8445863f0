import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { partsText } from "@/model/host_parts.ts";
import { placementText, placeOnGpu } from "./gpu_placement.ts";

const [kvBytes, workBytes] = [100, 50];
const sparse = {
  weightBytes: 1000,
  kvBytes,
  workBytes,
  totalBytes: 1150,
  parts: { experts: { 1: 200, 2: 200, 3: 200 }, dense: { 0: 50 }, vision: 150 },
};

function placed(memoryBytes: number, expertLayers?: number) {
  const { parts, deviceBytes, hostBytes } = placeOnGpu(sparse, { memoryBytes, expertLayers });
  assert.ok(deviceBytes <= memoryBytes);
  return [partsText(parts), deviceBytes, hostBytes];
}

Deno.test("placeOnGpu() moves experts, then vision, then dense layers, only as far as needed", () => {
  assert.deepEqual(placed(1150), ["", 1150, 0]);
  assert.deepEqual(placed(1149), ["experts 3", 950, 200 + workBytes]);
  assert.deepEqual(placed(900), ["experts 2-3", 750, 400 + workBytes]);
  assert.deepEqual(placed(549), ["experts 1-3, vision", 400, 750 + workBytes]);
  assert.deepEqual(placed(399), ["experts 1-3, feed-forward 0, vision", 350, 800 + workBytes]);
  assert.throws(
    () => placed(349),
    (error) => error instanceof OperatingError && /takes 350 bytes of 349/.test(error.message),
  );
});

Deno.test("placeOnGpu() keeps as many layers' experts on the GPU as are asked for", () => {
  assert.deepEqual(placed(5000, 0), ["experts 1-3", 550, 600 + workBytes]);
  assert.deepEqual(placed(5000, 2), ["experts 3", 950, 200 + workBytes]);
  assert.deepEqual(placed(5000, Infinity), ["", 1150, 0]);
  assert.deepEqual(placed(1000, 3), ["vision", 1000, 150 + workBytes]);
});

Deno.test("placementText() names the bytes and the parts", () => {
  const gib = 2 ** 30;
  const parts = {
    expertLayers: new Set([3, 1, 2, 7]),
    denseLayers: new Set<number>(),
    vision: false,
  };
  assert.equal(
    placementText({ parts, deviceBytes: 3 * gib, hostBytes: 1.5 * gib }),
    "3.0 GiB on the GPU, 1.5 GiB on the processor (experts 1-3+7)",
  );
});
