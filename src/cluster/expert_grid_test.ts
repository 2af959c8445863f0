import assert from "node:assert/strict";
import { ExpertGrid, formatSlots, parseSlots } from "./expert_grid.ts";

Deno.test("ExpertGrid numbers the experts of sparse layers without gaps", () => {
  const grid = new ExpertGrid({ layers: [1, 3, 5], experts: 4 });
  assert.equal(grid.size, 12);
  assert.equal(grid.slot(3, 2), 6);
  assert.deepEqual([grid.layerOf(6), grid.expertOf(6)], [3, 2]);
  assert.equal(grid.describe(11), "expert 3 of layer 5");
  assert.ok(!grid.has(2, 0) && !grid.has(3, 4) && !grid.has(3, -1));
  assert.throws(() => grid.slot(2, 0), /no expert 0 in layer 2/);
});

Deno.test("parseSlots() reads what formatSlots() writes, and refuses the rest", () => {
  assert.equal(formatSlots([7, 3, 1, 2, 9, 8, 3]), "1-3,7-9");
  assert.deepEqual([...parseSlots("1-3,7", 8)], [1, 2, 3, 7]);
  assert.equal(parseSlots("", 8).size, 0);
  for (const text of ["8", "3-2", "a", "1,,2", "1-", "-1", "1 2", "99999999999", "1-3,3", "4,2"]) {
    assert.throws(() => parseSlots(text, 8), /Cannot read slots/, text);
  }
});
