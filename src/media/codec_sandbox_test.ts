import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { blackBmp } from "./_bitmap.ts";
import { readGoldenFile, readGoldenPixels } from "./_golden.ts";
import { compileCodecModule } from "./codec_module.ts";
import { CodecSandbox, sampleIndexes } from "./codec_sandbox.ts";

const small = readGoldenFile("image_decode/rgb.png");
const decode = { kind: "decode", applyOrientation: true } as const;

Deno.test("CodecSandbox gives the memory of a large picture back", async () => {
  const sandbox = new CodecSandbox(await compileCodecModule());
  for (let round = 0; round < 3; round++) {
    const image = await sandbox.perform(blackBmp(3300, 3300), decode);
    strictEqual(image.data.length, 3300 * 3300 * 3);
    ok(sandbox.memoryBytes <= limits.codecMemoryRetainedBytesMax, `${sandbox.memoryBytes}`);
  }
  const image = await sandbox.perform(small, decode);
  deepStrictEqual(
    image.data,
    readGoldenPixels("image_decode/decoded.safetensors").get("rgb.png")!.data,
  );
});

Deno.test("CodecSandbox keeps one instance's memory flat over many small pictures", async () => {
  const sandbox = new CodecSandbox(await compileCodecModule());
  const request = { tileSize: 56, maxTiles: 4, thumbnail: true, applyOrientation: true };
  await sandbox.perform(small, { kind: "prepareTiles", request });
  const before = sandbox.memoryBytes;
  for (let round = 0; round < 300; round++) {
    await sandbox.perform(small, { kind: "prepareTiles", request });
    await sandbox.perform(small.slice(0, 200), decode).catch(() => undefined);
  }
  strictEqual(sandbox.memoryBytes, before);
});

Deno.test("CodecSandbox serves on after its module ran out of memory", async () => {
  const sandbox = new CodecSandbox(await compileCodecModule());
  // Tiles of these sizes cannot fit the module's memory, which ends it in the middle of a call.
  const request = {
    tileSize: limits.tileSizeMax,
    maxTiles: limits.tilesPerImageMax,
    minTiles: limits.tilesPerImageMax,
    thumbnail: false,
    applyOrientation: true,
  };
  await rejects(sandbox.perform(small, { kind: "prepareTiles", request }), (error) => {
    ok(error instanceof OperatingError, String(error));
    strictEqual(error.code, "invalid_media");
    return /gave up/.test(error.message);
  });
  strictEqual((await sandbox.perform(small, { kind: "probe" })).format, "png");
});

Deno.test("sampleIndexes() takes the middles of equal parts", () => {
  deepStrictEqual(sampleIndexes(10, 5), [1, 3, 5, 7, 9]);
  deepStrictEqual(sampleIndexes(3, 8), [0, 1, 2]);
  deepStrictEqual(sampleIndexes(7, 1), [3]);
});
