import assert from "node:assert/strict";
import { LateFailure } from "./late_failure.ts";

Deno.test("LateFailure.unlessFirst() gives the value, or the failure that comes before it", async () => {
  const late = new LateFailure();
  assert.equal(await late.unlessFirst(Promise.resolve(3)), 3);
  await assert.rejects(late.unlessFirst(Promise.reject(new Error("own"))), /own/);
  const never = new Promise<void>(() => {});
  const waiting = [late.unlessFirst(never), late.unlessFirst(never)];
  assert.equal(late.waitingCount, 2);
  late.fail(new Error("lost"));
  late.fail(new Error("lost again"));
  for (const promise of waiting) await assert.rejects(promise, /^Error: lost$/);
  await assert.rejects(late.unlessFirst(never), /^Error: lost$/);
  await assert.rejects(late.unlessFirst(Promise.resolve(3)), /^Error: lost$/);
});

Deno.test("LateFailure keeps nobody who waits no more", async () => {
  const late = new LateFailure();
  for (let i = 0; i < 100; i++) await late.unlessFirst(Promise.resolve(i));
  await late.unlessFirst(Promise.reject(new Error("own"))).catch(() => {});
  assert.equal(late.waitingCount, 0);
});
