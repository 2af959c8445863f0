import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { readGoldenFile } from "./_golden.ts";
import { inlineCodec } from "./codec.ts";
import { prepareVideo, splitBmps } from "./video.ts";

const request = { count: 4, tileSize: 8 };
const bmp = readGoldenFile("image_decode/rgb.bmp");

async function run(tool: string, args: string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(tool, { args, stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const hasFfmpeg = await run("ffmpeg", ["-version"]);

/** Seconds of gray that brightens by 20 levels each second. */
async function makeVideo(extension: string, seconds: number): Promise<Uint8Array> {
  const path = await Deno.makeTempFile({ suffix: extension });
  try {
    const source = `color=black:s=64x48:r=10:d=${seconds}`;
    const filter = "format=gray,geq=lum='20*floor(T)',format=yuv420p";
    const input = ["-v", "error", "-y", "-f", "lavfi", "-i", source];
    ok(await run("ffmpeg", [...input, "-vf", filter, "-c:v", "mjpeg", "-q:v", "2", path]));
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}

function chunked(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  const parts = Array.from(
    { length: Math.ceil(bytes.length / size) },
    (_, index) => bytes.slice(index * size, (index + 1) * size),
  );
  return ReadableStream.from(parts);
}

Deno.test("splitBmps() finds whole files whatever the chunks are", async () => {
  const two = Uint8Array.from([...bmp, ...bmp, ...bmp.slice(0, 100)]);
  for (const size of [1, 5, 6, 7, 1000, two.length]) {
    const files: Uint8Array[] = [];
    for await (const file of splitBmps(chunked(two, size))) files.push(file);
    deepStrictEqual(files, [bmp, bmp], `chunks of ${size}`);
  }
});

Deno.test("splitBmps() refuses a frame above the byte limit", async () => {
  const hostile = Uint8Array.of(0x42, 0x4d, 0xff, 0xff, 0xff, 0xff, 0, 0);
  await rejects(async () => {
    for await (const _ of splitBmps(chunked(hostile, 8)));
  }, (error: OperatingError) => error.code === "payload_too_large");
});

Deno.test("prepareVideo() says that ffmpeg is missing", async () => {
  const codec = inlineCodec();
  const mp4 = new TextEncoder().encode("\0\0\0\x20ftypisom");
  const options = { codec, field: "video", toolFolder: "/nonexistent" };
  await rejects(prepareVideo(mp4, request, options), (error: OperatingError) => {
    strictEqual(error.code, "invalid_media");
    strictEqual(error.field, "video");
    return /ffmpeg, and ffprobe is not installed$/.test(error.message);
  });
  codec.close();
});

Deno.test("prepareVideo() gives pictures and animations to the codec", async () => {
  const codec = inlineCodec();
  const tiled = await prepareVideo(bmp, request, { codec });
  strictEqual(tiled.tileCount, 1);
  const junk = prepareVideo(new TextEncoder().encode("#EXTM3U"), request, { codec });
  await rejects(junk, (error: OperatingError) => error.code === "invalid_media");
  codec.close();
});

for (const extension of [".mov", ".mkv", ".avi"]) {
  Deno.test({
    name: `prepareVideo() samples ${extension} uniformly (needs ffmpeg)`,
    ignore: !hasFfmpeg,
    async fn() {
      const codec = inlineCodec();
      const tiled = await prepareVideo(await makeVideo(extension, 8), request, { codec });
      deepStrictEqual([tiled.sourceWidth, tiled.sourceHeight, tiled.tileCount], [64, 48, 4]);
      // Middles of four parts of eight seconds: seconds 1, 3, 5 and 7.
      const expected = [20, 60, 100, 140];
      const levels = expected.map((_, index) => tiled.tiles[index * 8 * 8 * 3]!);
      levels.forEach((level, index) => {
        ok(Math.abs(level - expected[index]!) <= 4, `${levels} at ${index}`);
      });
      codec.close();
    },
  });
}

Deno.test({
  name: "prepareVideo() ends on damaged files and on time (needs ffmpeg)",
  ignore: !hasFfmpeg,
  async fn() {
    const codec = inlineCodec();
    const video = await makeVideo(".mov", 2);
    const cut = prepareVideo(video.slice(0, video.length / 2), request, { codec });
    await rejects(cut, (error: OperatingError) => error.code === "invalid_media");
    const late = prepareVideo(video, request, { codec, timeoutMs: 1 });
    await rejects(late, /takes longer than 1 ms$/);
    codec.close();
  },
});
