import { deepStrictEqual, strictEqual, throws } from "node:assert/strict";
import { readGoldenFile } from "./_golden.ts";
import { assertTileRequest, chooseGrid, msacGrid, planTiles, wholeSize } from "./tiling.ts";

type Row = [
  width: number,
  height: number,
  maxTiles: number,
  msac: boolean,
  first: [number, number],
  second: [number, number] | null,
  tiles: number,
];

Deno.test("planTiles() chooses the golden grids for every size, bound and MSAC setting", () => {
  const cases = JSON.parse(new TextDecoder().decode(readGoldenFile("preprocess_cases.json")));
  const tileSize = cases.image_size as number;
  const rows = cases.rows as Row[];
  strictEqual(rows.length, 512);
  for (const [width, height, maxTiles, msac, first, second, tiles] of rows) {
    const label = `${width}x${height} max ${maxTiles} msac ${msac}`;
    const request = { tileSize, maxTiles, thumbnail: true, msac, applyOrientation: true };
    const plan = planTiles(width, height, request);
    deepStrictEqual([plan.grid.columns, plan.grid.rows], first, label);
    const secondGrid = plan.secondGrid;
    deepStrictEqual(secondGrid ? [secondGrid.columns, secondGrid.rows] : null, second, label);
    strictEqual(plan.tileCount, tiles, label);
    const options = { tileSize, minTiles: 1, maxTiles };
    deepStrictEqual(chooseGrid(width, height, options), plan.grid, label);
    if (msac) deepStrictEqual(msacGrid(width, height, plan.grid, options), secondGrid, label);
  }
});

Deno.test("chooseGrid() prefers the larger of two equally near grids only for large pictures", () => {
  const options = { tileSize: 100, minTiles: 1, maxTiles: 4 };
  deepStrictEqual(chooseGrid(100, 100, options), { columns: 1, rows: 1 });
  // More than half of the 2x2 grid's 40,000 pixels.
  deepStrictEqual(chooseGrid(142, 142, options), { columns: 2, rows: 2 });
  deepStrictEqual(chooseGrid(141, 141, options), { columns: 1, rows: 1 });
});

Deno.test("chooseGrid() keeps to minTiles", () => {
  const grid = chooseGrid(10, 10, { tileSize: 448, minTiles: 3, maxTiles: 4 });
  deepStrictEqual(grid, { columns: 2, rows: 2 });
});

Deno.test("planTiles() gives one tile for a video frame, whatever its shape", () => {
  const request = {
    tileSize: 448,
    maxTiles: 10,
    thumbnail: true,
    applyOrientation: false,
    singleTile: true,
  };
  const plan = planTiles(4000, 500, request);
  strictEqual(plan.tileCount, 1);
  deepStrictEqual(plan.grid, { columns: 1, rows: 1 });
});

Deno.test("assertTileRequest() refuses bounds that no model has", () => {
  const request = { tileSize: 448, maxTiles: 10, thumbnail: true, applyOrientation: true };
  assertTileRequest(request);
  throws(() => assertTileRequest({ ...request, tileSize: 0 }), /tileSize 0/);
  throws(() => assertTileRequest({ ...request, maxTiles: 2.5 }), /maxTiles 2.5/);
  throws(() => assertTileRequest({ ...request, minTiles: 11 }), /minTiles 11/);
});

Deno.test("wholeSize() keeps the aspect in multiples and under the bound", () => {
  const request = { multiple: 28, squaresMax: 4096 };
  deepStrictEqual(wholeSize(56, 56, request), { width: 56, height: 56 });
  deepStrictEqual(wholeSize(100, 300, request), { width: 112, height: 308 });
  deepStrictEqual(wholeSize(1, 1, request), { width: 28, height: 28 });
  for (const [width, height] of [[4000, 3000], [60000, 20], [1792, 1792], [1793, 1800]]) {
    const size = wholeSize(width!, height!, request);
    strictEqual(size.width % 28, 0);
    strictEqual(size.height % 28, 0);
    const squares = size.width * size.height / 28 ** 2;
    strictEqual(squares <= 4096 && squares >= 1, true, `${squares} squares`);
  }
});
