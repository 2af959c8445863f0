import assert from "node:assert/strict";
import { parseSize } from "./sizes.ts";

Deno.test("parseSize() reads binary and decimal units, and nothing else", () => {
  assert.equal(parseSize("8GiB"), 8 * 2 ** 30);
  assert.equal(parseSize("1.5gb"), 1.5e9);
  assert.equal(parseSize("500MiB"), 500 * 2 ** 20);
  for (const text of ["", "8", "GiB", "8 GiB", "-1GB", "1.GB", "8TiB"]) {
    assert.equal(parseSize(text), undefined, text);
  }
});
