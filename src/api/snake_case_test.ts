import assert from "node:assert/strict";
import { snakeCase } from "./snake_case.ts";

Deno.test("snakeCase() respells keys at every depth and turns what is missing into null", () => {
  const value = snakeCase({ p95Ms: 1, inner: [{ heldBytes: 2, id: "aB" }], gone: undefined });
  assert.deepEqual(value, { p95_ms: 1, inner: [{ held_bytes: 2, id: "aB" }], gone: null });
  const typed: number = value.p95_ms + value.inner[0]!.held_bytes;
  assert.equal(typed, 3);
});
