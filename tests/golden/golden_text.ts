/** Texts that are reviewed as files: a change shows as a diff, `UPDATE_GOLDEN=1` accepts it. */
import assert from "node:assert/strict";

/** Compares a text with `tests/golden/NAME`. */
export async function assertGolden(name: string, actual: string): Promise<void> {
  const path = new URL(name, import.meta.url);
  if (Deno.env.get("UPDATE_GOLDEN") === "1") await Deno.writeTextFile(path, actual);
  const expected = await Deno.readTextFile(path);
  assert.equal(actual, expected, `${name} changed: run with UPDATE_GOLDEN=1 and review the diff`);
}
