/** The page's copy of the server's bound. Reading files is tested in the browser (`page_test.ts`). */
import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { pictureBytesMax } from "./picture.ts";

Deno.test("pictureBytesMax equals the server's bound", () => {
  assert.equal(pictureBytesMax, limits.imageBytesMax);
});
