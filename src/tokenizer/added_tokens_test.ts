import { deepEqual, equal } from "node:assert/strict";
import { AddedTokenSearch, FAMILY_ADDED_TOKENS } from "./added_tokens.ts";

const search = new AddedTokenSearch(
  ["<a>", "<a><b>", "a>"].map((content, id) => ({ id, content, special: true })),
);

Deno.test("find() takes the leftmost and there the longest token", () => {
  const all = () => true;
  deepEqual(search.find("x<a><b>", 0, all), { start: 1, end: 7, id: 1 });
  deepEqual(search.find("x<a><c>", 0, all), { start: 1, end: 4, id: 0 });
  deepEqual(search.find("x<a>", 2, all), { start: 2, end: 4, id: 2 });
  equal(search.find("<b><a", 0, all), undefined);
});

Deno.test("find() passes over tokens that are not allowed", () => {
  deepEqual(search.find("<a><b>", 0, (id) => id !== 1), { start: 0, end: 3, id: 0 });
  deepEqual(search.find("<a><b>", 0, (id) => id === 2), { start: 1, end: 3, id: 2 });
});

Deno.test("FAMILY_ADDED_TOKENS equals the table of a checkpoint", async () => {
  const folder = "tests/fixtures/model/tokenizer";
  const { added_tokens } = JSON.parse(await Deno.readTextFile(`${folder}/tokenizer.json`));
  const table = added_tokens.map(({ content, special }: { content: string; special: boolean }) => {
    return { content, special };
  });
  deepEqual(FAMILY_ADDED_TOKENS, table);
});
