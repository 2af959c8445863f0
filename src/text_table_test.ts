import assert from "node:assert/strict";
import { byteText, shortNumber, textTable } from "./text_table.ts";

Deno.test("textTable() makes columns as wide as their longest cell, without trailing blanks", () => {
  const rows = [["node", "rows"], ["a", "7"], ["shard-2", "1200"], ["b"]];
  assert.deepEqual(textTable(rows, new Set([1])), [
    "node     rows",
    "a           7",
    "shard-2  1200",
    "b",
  ]);
  assert.deepEqual(textTable([]), []);
});

Deno.test("shortNumber() and byteText() show three digits", () => {
  assert.deepEqual([0.1234, 1.234, 12.34, 1234].map(shortNumber), [
    "0.123",
    "1.23",
    "12.3",
    "1234",
  ]);
  assert.deepEqual([0, 1023, 1536, 3 * 2 ** 30, 5000 * 2 ** 40].map(byteText), [
    ...["0 B", "1023 B", "1.50 KiB", "3.00 GiB", "5000 TiB"],
  ]);
});
