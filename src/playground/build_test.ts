/** The committed bundle is the one that the sources give. */
import assert from "node:assert/strict";
import { staleFiles } from "./build.ts";

Deno.test({
  name: "staleFiles() finds nothing: run deno task build:playground when it does",
  // esbuild keeps a child process until stop(), whose end Deno does not see in time.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => assert.deepEqual(await staleFiles(), []),
});
