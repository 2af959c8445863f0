import assert from "node:assert/strict";
import { engineFlags } from "./engine_flags.ts";
import { parseFlags, UsageError } from "./flags.ts";

const read = (...args: string[]) => engineFlags(parseFlags("serve", args));

Deno.test("engineFlags() gives what was named, and nothing else", () => {
  assert.deepEqual(read(), {});
  assert.deepEqual(read("--speculation", "lookup", "--answer-seconds", "2"), {
    speculation: "lookup",
    generationMs: 2000,
  });
  assert.deepEqual(read("--answer-seconds", "0"), { generationMs: Infinity });
  assert.deepEqual(read("--cache-dir", "d", "--cache-size", "1048576"), {
    cacheFolder: "d",
    cacheBytesMax: 1_048_576,
  });
  assert.deepEqual(read("--draft-model", "small"), { draftFolder: "small" });
});

Deno.test("engineFlags() refuses flags without the ones they need", () => {
  assert.throws(() => read("--speculation", "draft"), UsageError);
  assert.throws(() => read("--cache-size", "1048576"), UsageError);
  assert.throws(() => read("--speculation", "always"), UsageError);
});
