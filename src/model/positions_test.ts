import { deepEqual, ok } from "node:assert/strict";
import { interpolatePositions } from "./positions.ts";

interface Case {
  side: number;
  width: number;
  rows: number;
  columns: number;
  seed: number;
  values: number[];
}

// Made with torch.nn.functional.interpolate(mode="bicubic", align_corners=False) in float32.
const cases: Case[] = JSON.parse(
  Deno.readTextFileSync(
    new URL("../../tests/fixtures/positions/bicubic.json", import.meta.url),
  ),
);

for (const item of cases) {
  Deno.test(`interpolatePositions() equals PyTorch on ${item.rows}x${item.columns}`, () => {
    const { side, width, seed } = item;
    const table = Float32Array.from(
      { length: side * side * width },
      (_, i) => (i * 37 + seed * 11) % 101 / 50 - 1,
    );
    const actual = interpolatePositions(table, item);
    ok(actual.length === item.values.length);
    const worst = Math.max(...item.values.map((value, i) => Math.abs(value - actual[i]!)));
    ok(worst < 5e-6, `worst error ${worst}`);
  });
}

Deno.test("interpolatePositions() keeps an unchanged grid", () => {
  const table = Float32Array.from({ length: 18 }, (_, i) => i);
  deepEqual(interpolatePositions(table, { side: 3, width: 2, rows: 3, columns: 3 }), table);
});
