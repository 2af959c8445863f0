import assert from "node:assert/strict";
import { openReferenceBackend } from "../reference/backend.ts";
import { openWasmBackend } from "./backend.ts";
import { measureLimits } from "./probe.ts";

Deno.test("measureLimits() gives finite rates on every variant and leaves no memory in use", async () => {
  for (const variant of ["relaxed-threads", "simd-threads", "simd"] as const) {
    const backend = await openWasmBackend({ variant, ...(variant !== "simd" && { threads: 2 }) });
    const limits = await measureLimits(backend, { repeats: 1, readBytes: 2 ** 22 });
    for (const [name, rate] of Object.entries(limits)) {
      assert.ok(rate > 1e8 && rate < 1e14, `${variant} ${name} is ${rate}`);
    }
    assert.equal(backend.usedBytes(), 0);
    await backend.close();
  }
});

Deno.test("measureLimits() refuses a backend without kernels", async () => {
  await assert.rejects(measureLimits(openReferenceBackend()), /limits of the reference backend/);
});
