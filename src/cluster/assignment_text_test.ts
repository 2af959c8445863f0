import assert from "node:assert/strict";
import {
  decodeAssignment,
  decodeReport,
  encodeAssignment,
  encodeReport,
} from "./assignment_text.ts";
import { ExpertGrid } from "./expert_grid.ts";

const grid = new ExpertGrid({ layers: [0, 1], experts: 4 });
const order = { fence: 7, serial: 3, epochMin: 4, epochMax: 5 };

Deno.test("decodeAssignment() reads what encodeAssignment() writes", () => {
  const assignment = { ...order, keep: new Set([0, 1, 2, 7]) };
  assert.deepEqual(decodeAssignment(encodeAssignment(assignment), grid), assignment);
});

Deno.test("decodeReport() reads what encodeReport() writes", () => {
  for (const failure of [undefined, "Cannot load expert 1 of layer 0: no file"]) {
    const report = { node: "a", incarnation: 9, ...order, held: new Set([5]), failure };
    assert.deepEqual(decodeReport(encodeReport(report), grid), report);
  }
});

Deno.test("decodeAssignment() and decodeReport() refuse other shapes", () => {
  const good = { node: "a", incarnation: 9, ...order, held: "5", keep: "0-2" };
  decodeAssignment(JSON.stringify(good), grid);
  decodeReport(JSON.stringify(good), grid);
  const bad = [
    { epochMin: 6 },
    { serial: -1 },
    { fence: 1.5 },
    { keep: "0-8", held: "0-8" },
    { keep: [1], held: [1] },
    { keep: undefined, held: undefined },
  ];
  for (const change of bad) {
    const text = JSON.stringify({ ...good, ...change });
    assert.throws(() => decodeAssignment(text, grid), /Cannot read/, text);
    assert.throws(() => decodeReport(text, grid), /Cannot read/, text);
  }
  assert.throws(() => decodeReport(JSON.stringify({ ...good, node: 1 }), grid), SyntaxError);
});
