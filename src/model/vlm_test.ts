import { deepEqual, ok } from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { seededRandom } from "@/random.ts";
import { mergeOrder } from "./adapter.ts";
import { loadModel } from "./load.ts";

const dense = new URL("../../tests/fixtures/model/dense", import.meta.url).pathname;

function noise(length: number): Uint8Array {
  const random = seededRandom(3);
  return Uint8Array.from({ length }, () => random() * 256);
}

Deno.test("encodePicture() equals encodeTiles() on the trained grid", async () => {
  const backend = openReferenceBackend();
  const { model } = await loadModel({ folder: diskFolder(dense), backend, quantisation: "none" });
  const side = model.tileSize;
  const pixels = noise(side * side * 3);
  const tiles = backend.allocate("u8", [1, side, side, 3]);
  backend.write(tiles, pixels);
  const [byTile, byPicture] = [0, 1].map(() =>
    backend.allocate("f32", [model.tokensPerTile, model.hiddenWidth])
  ) as [ReturnType<typeof backend.allocate>, ReturnType<typeof backend.allocate>];
  await model.encodeTiles(tiles, 1, byTile);
  await backend.flush();
  await model.encodePicture({ width: side, height: side, pixels }, byPicture);
  deepEqual(await backend.read(byPicture), await backend.read(byTile));
});

Deno.test("encodePicture() gives finite tokens for a wide picture", async () => {
  const backend = openReferenceBackend();
  const { model } = await loadModel({ folder: diskFolder(dense), backend, quantisation: "none" });
  const [width, height] = [28 * 5, 28 * 2];
  const out = backend.allocate("f32", [10, model.hiddenWidth]);
  await model.encodePicture({ width, height, pixels: noise(width * height * 3) }, out);
  const values = await backend.read(out) as Float32Array;
  ok(values.every(Number.isFinite));
  ok(new Set(values).size > values.length / 2);
});

Deno.test("mergeOrder() lists 2x2 squares row-major in v2 and transposed in v1", () => {
  const grid = { rows: 4, columns: 4 };
  const list = (order: "v1" | "v2") =>
    [...mergeOrder({ grid, factor: 2, order, count: 1 })].join(" ");
  deepEqual(list("v2"), "0 1 4 5 2 3 6 7 8 9 12 13 10 11 14 15");
  deepEqual(list("v1"), "0 1 4 5 8 9 12 13 2 3 6 7 10 11 14 15");
});
