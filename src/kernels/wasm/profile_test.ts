import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { openWasmBackend } from "./backend.ts";
import { OpProfile } from "./profile.ts";

Deno.test("a backend with a profile computes the same and books every op", async () => {
  const profile = new OpProfile(systemClock);
  const results: unknown[] = [];
  for (const options of [{ threads: 2 }, { threads: 2, profile }]) {
    const backend = await openWasmBackend(options);
    try {
      const input = backend.allocate("f32", [2, 8]);
      const out = backend.allocate("f32", [2, 4]);
      const weight = backend.createMatrix({ format: "f32", rows: 4, columns: 8 });
      const values = Float32Array.from({ length: 32 }, (_, i) => i / 7);
      const bytes = new Uint8Array(values.buffer);
      await backend.packRows(weight, { firstRow: 0, rowCount: 4, bytes, dtype: "F32" });
      profile.take();
      backend.write(input, values.subarray(0, 16));
      backend.ops.add({ left: input, right: input, out: input });
      backend.ops.matmul({ input, weight, out });
      backend.ops.add({ left: out, right: out, out });
      results.push(await backend.read(out));
    } finally {
      await backend.close();
    }
  }
  assert.deepEqual(results[1], results[0]);
  const times = profile.take();
  const counts = times.map(({ name, count }) => [name, count]).sort();
  assert.deepEqual(counts, [["add", 2], ["matmul 8 to 4", 1]]);
  assert.ok(times.every(({ ms, medianMs }) => ms >= medianMs && medianMs >= 0));
  assert.deepEqual(profile.take(), []);
});
