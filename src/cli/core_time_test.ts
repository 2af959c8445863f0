import assert from "node:assert/strict";
import { coreTimeOf } from "./core_time.ts";

Deno.test("coreTimeOf() counts the time that this process ran, where the system keeps books", () => {
  const before = coreTimeOf(Deno.pid);
  if (!before) return;
  let sum = 0;
  for (let i = 0; i < 2e7; i++) sum += Math.sqrt(i);
  assert.ok(sum > 0);
  const after = coreTimeOf(Deno.pid)!;
  assert.ok(after.ranMs > before.ranMs && after.waitedMs >= before.waitedMs);
  assert.equal(coreTimeOf(2 ** 22 + 1), undefined, "no such process");
});
