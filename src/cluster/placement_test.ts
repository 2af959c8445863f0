import assert from "node:assert/strict";
import { ExpertGrid } from "./expert_grid.ts";
import { coverageError, decodePlacement, encodePlacement, uncoveredSlots } from "./placement.ts";

const grid = new ExpertGrid({ layers: [1, 2], experts: 2 });
const placement = { epoch: 9, owners: [["a", "b"], ["b"], [], ["c"]] };

Deno.test("decodePlacement() reads what encodePlacement() writes", () => {
  assert.deepEqual(decodePlacement(encodePlacement(placement), grid), placement);
});

Deno.test("decodePlacement() refuses other shapes", () => {
  const bad = [
    "{",
    "[]",
    "null",
    `{"epoch":0,"nodes":[],"owners":[[],[],[],[]]}`,
    `{"epoch":1,"nodes":[1],"owners":[[],[],[],[]]}`,
    `{"epoch":1,"nodes":[],"owners":[[],[],[]]}`,
    `{"epoch":1,"nodes":["a"],"owners":[[0,0],[],[],[]]}`,
    `{"epoch":1,"nodes":["a"],"owners":[[1],[],[],[]]}`,
  ];
  for (const text of bad) assert.throws(() => decodePlacement(text, grid), SyntaxError, text);
});

Deno.test("coverageError() names an expert that nobody owns", () => {
  assert.deepEqual(uncoveredSlots(placement, (node) => node !== "b"), [1, 2]);
  const error = coverageError(grid, [1, 2]);
  assert.equal(error.code, "unavailable");
  assert.equal(error.message, "No live node owns expert 1 of layer 1 and 1 more");
});
