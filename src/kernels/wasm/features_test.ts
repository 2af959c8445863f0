import assert from "node:assert/strict";
import { type Features, obstacle, probeFeatures } from "./features.ts";
import { variants } from "./variants.ts";

const all: Features = {
  simd: true,
  relaxedSimd: true,
  threads: true,
  threadsReason: "",
  memory64: true,
};
const threadless: Features = {
  ...all,
  threads: false,
  threadsReason: "Worker is missing",
  memory64: false,
};

Deno.test("probeFeatures() finds everything on this runtime", () => {
  assert.deepEqual(probeFeatures(), all);
});

Deno.test("probeFeatures() names what threads lack", () => {
  const scope = globalThis as { SharedArrayBuffer?: unknown };
  const original = scope.SharedArrayBuffer;
  try {
    delete scope.SharedArrayBuffer;
    const features = probeFeatures();
    assert.equal(features.threads, false);
    assert.equal(features.threadsReason, "SharedArrayBuffer is missing");
    assert.equal(features.memory64, false);
  } finally {
    scope.SharedArrayBuffer = original;
  }
});

Deno.test("obstacle() is empty exactly for the variants that the features allow", () => {
  const free = (features: Features) => variants.filter((v) => obstacle(v, features) === "");
  assert.deepEqual(free(all), [
    "relaxed-threads",
    "simd-threads",
    "simd",
    "relaxed-threads-64",
  ]);
  assert.deepEqual(free({ ...all, memory64: false }), ["relaxed-threads", "simd-threads", "simd"]);
  assert.deepEqual(free({ ...all, relaxedSimd: false }), ["simd-threads", "simd"]);
  assert.deepEqual(free(threadless), ["simd"]);
  assert.deepEqual(free({ ...all, simd: false }), []);
  assert.equal(obstacle("simd-threads", threadless), "Worker is missing");
  assert.equal(obstacle("relaxed-threads-64", threadless), "Worker is missing");
  assert.equal(
    obstacle("relaxed-threads-64", { ...all, memory64: false }),
    "64-bit memory is missing",
  );
});

Deno.test("probeFeatures() finds no 64-bit memory where the interface takes none", () => {
  const original = WebAssembly.Memory;
  try {
    Object.assign(WebAssembly, {
      Memory: class {
        constructor() {
          throw new TypeError("Cannot convert a BigInt value to a number");
        }
      },
    });
    assert.equal(probeFeatures().memory64, false);
  } finally {
    Object.assign(WebAssembly, { Memory: original });
  }
});
