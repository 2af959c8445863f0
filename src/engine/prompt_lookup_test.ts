import assert from "node:assert/strict";
import { seededRandom } from "@/random.ts";
import { PromptLookup } from "./prompt_lookup.ts";

function lookupOf(ids: readonly number[]): PromptLookup {
  const lookup = new PromptLookup(4);
  lookup.push(ids);
  return lookup;
}

Deno.test("PromptLookup.propose() copies what followed the longest match", () => {
  const lookup = lookupOf([1, 2, 3, 4, 9, 2, 3, 5, 7, 1, 2, 3]);
  assert.deepEqual(lookup.propose(3), { ids: [4, 9, 2], matched: 3 });
  lookup.push([4]);
  assert.deepEqual(lookup.propose(2), { ids: [9, 2], matched: 4 });
});

Deno.test("PromptLookup.propose() prefers the newest of equal matches", () => {
  assert.deepEqual(lookupOf([1, 2, 5, 1, 2, 6, 1, 2]).propose(1), { ids: [6], matched: 2 });
});

Deno.test("PromptLookup.propose() continues a repetition beyond the end", () => {
  const copy = lookupOf([7, 8, 7, 8, 7, 8]).propose(5);
  assert.deepEqual(copy?.ids, [7, 8, 7, 8, 7]);
  assert.deepEqual(lookupOf([4, 4, 4]).propose(4)?.ids, [4, 4, 4, 4]);
});

Deno.test("PromptLookup.propose() finds nothing in new text, short text or for no tokens", () => {
  assert.equal(lookupOf([]).propose(4), undefined);
  assert.equal(lookupOf([5]).propose(4), undefined);
  assert.equal(lookupOf([1, 2, 3, 4, 5]).propose(4), undefined);
  assert.equal(lookupOf([1, 2, 3, 1, 2]).propose(0), undefined);
});

/** The definition, by comparing all places. */
function directMatch(ids: readonly number[]): number {
  let longest = 0;
  for (let place = 0; place < ids.length - 1; place++) {
    let length = 0;
    while (length < 12 && place >= length && ids[place - length] === ids.at(-1 - length)) length++;
    longest = Math.max(longest, length);
  }
  return longest;
}

Deno.test("PromptLookup.propose() equals a full search on random texts", () => {
  const random = seededRandom(3);
  for (let round = 0; round < 300; round++) {
    const symbols = 2 + Math.floor(random() * 20);
    const ids = Array.from(
      { length: Math.floor(random() * 24) },
      () => Math.floor(random() * symbols),
    );
    const copy = lookupOf(ids).propose(6);
    const longest = directMatch(ids);
    assert.equal(copy?.matched ?? 0, longest < 2 ? 0 : longest, `${ids}`);
    assert.equal(copy?.ids.length ?? 6, 6);
  }
});

Deno.test("PromptLookup stays cheap when everything looks alike", () => {
  const lookup = new PromptLookup(100_000);
  lookup.push(new Array<number>(100_000).fill(3));
  const startMs = performance.now();
  for (let i = 0; i < 1000; i++) lookup.propose(8);
  assert.ok(performance.now() - startMs < 1000, "a thousand bounded searches");
});
