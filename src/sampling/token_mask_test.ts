import assert from "node:assert/strict";
import { allowedIds, isAllowed } from "./token_mask.ts";

Deno.test("allowedIds() leaves out padding rows and forbidden ids at word borders", () => {
  const words = allowedIds({
    vocabularySize: 100,
    usableVocabulary: 70,
    forbiddenIds: [0, 31, 32, 69, 99, 5000],
  });
  assert.equal(words.length, 4);
  const allowed = Array.from({ length: 128 }, (_, id) => id).filter((id) => isAllowed(words, id));
  const forbidden = [0, 31, 32, 69];
  const expected = Array.from({ length: 70 }, (_, id) => id).filter((id) =>
    !forbidden.includes(id)
  );
  assert.deepEqual(allowed, expected);
  assert.equal(isAllowed(words, -1), false);
});

Deno.test("allowedIds() refuses a set without ids", () => {
  const sizes = { vocabularySize: 2, usableVocabulary: 2 };
  assert.throws(() => allowedIds({ ...sizes, forbiddenIds: [0, 1] }), /forbidden/);
});
