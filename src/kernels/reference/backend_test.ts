import assert from "node:assert/strict";
import { openReferenceBackend } from "./backend.ts";

Deno.test("flush() lets timers run during long programs", async () => {
  let nowMs = 0;
  const clock = { nowMs: () => nowMs += 7, epochMs: () => 0 };
  const backend = openReferenceBackend({ clock });
  const x = backend.allocate("f32", [1]);
  for (let i = 0; i < 50; i++) backend.ops.add({ left: x, right: x, out: x });
  const turns: string[] = [];
  setTimeout(() => turns.push("timer"), 0);
  await backend.flush();
  turns.push("flushed");
  assert.deepEqual(turns, ["timer", "flushed"]);
  await backend.close();
});

Deno.test("flush() reports a failing op to its caller, and later programs run", async () => {
  const backend = openReferenceBackend();
  const table = backend.createMatrix({ format: "f32", rows: 2, columns: 1 });
  const rowIndex = backend.allocate("i32", [1]);
  const out = backend.allocate("f32", [1]);
  backend.write(rowIndex, Int32Array.of(2));
  backend.ops.gatherRows({ table, rowIndex, out });
  await assert.rejects(backend.flush(), /table row 2 of 2/);
  backend.write(out, Float32Array.of(3));
  backend.ops.add({ left: out, right: out, out });
  assert.deepEqual(await backend.read(out), Float32Array.of(6));
  await backend.close();
});

Deno.test("recording an op with wrong shapes throws at once and names the tensor", () => {
  const backend = openReferenceBackend();
  const f32 = (...shape: number[]) => backend.allocate("f32", shape);
  const weight = backend.createMatrix({ format: "f32", rows: 4, columns: 3 });
  assert.throws(
    () => backend.ops.matmul({ input: f32(2, 5), weight, out: f32(2, 4) }),
    /input is \[2,5\], expected \[2, 3\]/,
  );
  assert.throws(
    () => backend.ops.rmsNorm({ input: f32(2, 5), weight: f32(4), epsilon: 0, out: f32(2, 5) }),
    /weight is \[4\], expected 5 elements/,
  );
});

Deno.test("free() refuses a storage twice", () => {
  const backend = openReferenceBackend();
  const x = backend.allocate("f32", [1]);
  backend.free(x);
  assert.throws(() => backend.free(x), /freed twice/);
});
