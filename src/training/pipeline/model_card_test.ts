import assert from "node:assert/strict";
import { cardWithScores, scoreTable } from "./model_card.ts";

const scores = [
  { task: "word", condition: "usual", count: 200, right: 151 },
  { task: "count", condition: "usual", count: 200, right: 200 },
  { task: "word", condition: "new typefaces", count: 10, right: 5 },
];

Deno.test("scoreTable() has tasks as rows and leaves open what was not measured", () => {
  assert.equal(
    scoreTable(scores),
    "| task | usual | new typefaces |\n| --- | --- | --- |\n" +
      "| word | 75.5 % (n 200) | 50.0 % (n 10) |\n| count | 100.0 % (n 200) | – |",
  );
});

Deno.test("cardWithScores() replaces the table between the marks and nothing else", () => {
  const card = "# A\n<!-- scores: written by make.ts -->\nold\n<!-- end of scores -->\nmore\n";
  const changed = cardWithScores(card, scores);
  assert.ok(changed.startsWith("# A\n<!-- scores: written by make.ts -->\n\n| task |"));
  assert.ok(changed.endsWith("– |\n\n<!-- end of scores -->\nmore\n"));
  assert.ok(!changed.includes("old"));
  assert.equal(cardWithScores(changed, scores), changed);
  assert.throws(() => cardWithScores("# A", scores), /the card lacks/);
});
