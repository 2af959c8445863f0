import { deepStrictEqual, notStrictEqual, ok, rejects, strictEqual } from "node:assert/strict";
import { crc32 } from "node:zlib";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { seededRandom } from "@/random.ts";
import { readGoldenFile, readGoldenPixels } from "./_golden.ts";
import { type Codec, inlineCodec, workerCodec } from "./codec.ts";
import { resizeBicubic } from "./resize.ts";

const implementations: [string, () => Codec][] = [
  ["inlineCodec()", inlineCodec],
  ["workerCodec()", workerCodec],
];
const goldens = readGoldenPixels("image_decode/decoded.safetensors");
const fixtureNames = [...goldens.keys()];
const tileRequest = { tileSize: 28, maxTiles: 6, thumbnail: true, applyOrientation: true };

function fixture(name: string): Uint8Array {
  return readGoldenFile(`image_decode/${name}`);
}

/** Registers one test per implementation. */
function testBoth(name: string, body: (codec: Codec) => Promise<void>): void {
  for (const [implementation, open] of implementations) {
    Deno.test(`${implementation} ${name}`, async () => {
      const codec = open();
      try {
        await body(codec);
      } finally {
        codec.close();
      }
    });
  }
}

function hasCode(code: string, message: RegExp): (error: unknown) => true {
  return (error) => {
    ok(error instanceof OperatingError, String(error));
    strictEqual(error.code, code, error.message);
    ok(message.test(error.message), error.message);
    return true;
  };
}

function equalBytes(actual: Uint8Array, expected: Uint8Array): boolean {
  return actual.length === expected.length &&
    actual.every((value, index) => value === expected[index]);
}

testBoth("decodes every golden file to Pillow's pixels, lossy ones too", async (codec) => {
  strictEqual(fixtureNames.length, 20);
  for (const name of fixtureNames) {
    const expected = goldens.get(name)!;
    const header = await codec.probe(fixture(name));
    const image = await codec.decode(fixture(name), { applyOrientation: false });
    deepStrictEqual([image.width, image.height], [expected.width, expected.height], name);
    deepStrictEqual([header.width, header.height], [expected.width, expected.height], name);
    // Pillow clips 16-bit gray to 255; keeping the high byte is the sensible scaling.
    if (name === "gray16.png") continue;
    ok(equalBytes(image.data, expected.data), name);
  }
});

testBoth("scales 16-bit gray to its high byte", async (codec) => {
  const { data } = await codec.decode(fixture("gray16.png"));
  const gray = data.filter((_, index) => index % 3 === 0);
  ok(Math.max(...gray) > 200 && Math.min(...gray) < 60, "the full range is used");
  ok(gray.some((value) => value > 60 && value < 200), "and what lies between");
});

testBoth("turns pictures upright by EXIF unless told not to", async (codec) => {
  const bytes = fixture("exif_orientation6.jpg");
  strictEqual((await codec.probe(bytes)).orientation, 6);
  const stored = await codec.decode(bytes, { applyOrientation: false });
  const upright = await codec.decode(bytes);
  deepStrictEqual([upright.width, upright.height], [stored.height, stored.width]);
  // Orientation 6: the stored bottom-left pixel is shown at the top left.
  const bottomLeft = (stored.height - 1) * stored.width * 3;
  deepStrictEqual(upright.data.slice(0, 3), stored.data.slice(bottomLeft, bottomLeft + 3));
});

testBoth("prepareTiles() cuts, orders and hashes tiles", async (codec) => {
  const bytes = fixture("rgb.png");
  const tiled = await codec.prepareTiles(bytes, tileRequest);
  const whole = goldens.get("rgb.png")!;
  const { columns, rows } = tiled.grid;
  strictEqual(tiled.tileCount, columns * rows + 1);
  strictEqual(tiled.tiles.length, tiled.tileCount * 28 * 28 * 3);
  deepStrictEqual([tiled.sourceWidth, tiled.sourceHeight], [whole.width, whole.height]);
  const stretched = resizeBicubic(whole, columns * 28, rows * 28);
  const second = tiled.tiles.slice(28 * 28 * 3, 28 * 28 * 3 + 28 * 3);
  deepStrictEqual(second, stretched.data.slice(28 * 3, 28 * 6));
  const thumbnail = resizeBicubic(whole, 28, 28).data;
  deepStrictEqual(tiled.tiles.slice(-thumbnail.length), thumbnail);
  strictEqual(new Set(tiled.tileHashes).size, tiled.tileCount);
  ok(tiled.tileHashes.every((hash) => /^[0-9a-f]{32}$/.test(hash)));
  const again = await codec.prepareTiles(bytes, tileRequest);
  deepStrictEqual(again.tileHashes, tiled.tileHashes);
});

testBoth("prepareTiles() puts MSAC tiles before the last tile of the first grid", async (codec) => {
  const bytes = fixture("rgb.png");
  const plain = await codec.prepareTiles(bytes, tileRequest);
  const msac = await codec.prepareTiles(bytes, { ...tileRequest, msac: true });
  const shared = plain.tileHashes.length - 1;
  deepStrictEqual(msac.tileHashes.slice(0, shared), plain.tileHashes.slice(0, shared));
  strictEqual(msac.tileHashes.at(-1), plain.tileHashes.at(-1));
  ok(msac.tileCount > plain.tileCount);
  notStrictEqual(msac.tileHashes[shared], plain.tileHashes[shared]);
  // One tile in the first grid: it comes last.
  const single = { ...tileRequest, maxTiles: 1 };
  const one = await codec.prepareTiles(bytes, single);
  const dot = { tileSize: 28, maxTiles: 4, thumbnail: true, msac: true, applyOrientation: true };
  const square = await codec.prepareTiles(fixture("one_pixel.png"), dot);
  deepStrictEqual(square.grid, { columns: 1, rows: 1 });
  strictEqual(square.tileCount, 5);
  strictEqual(one.tileCount, 1);
});

testBoth("samples frames of an animation uniformly", async (codec) => {
  const bytes = animatedGif(10);
  strictEqual((await codec.probe(bytes)).frames, 10);
  const frames = await codec.decodeFrames(bytes, { count: 5 });
  // Frame k is filled with gray 20 * k; the middles of five parts of ten are 1, 3, 5, 7, 9.
  deepStrictEqual(frames.map((frame) => frame.data[0]), [20, 60, 100, 140, 180]);
  const tiled = await codec.prepareFrames(bytes, { count: 20, tileSize: 4 });
  strictEqual(tiled.tileCount, 10);
  strictEqual(tiled.tiles[9 * 48], 180);
  const still = await codec.decodeFrames(fixture("rgb.png"), { count: 3 });
  strictEqual(still.length, 1);
});

testBoth("refuses hostile headers at once, naming value and bound", async (codec) => {
  const started = performance.now();
  const large = hasCode("payload_too_large", /60000x60000 exceeds 40000000 pixels$/);
  await rejects(codec.decode(pngHeader(60_000, 60_000)), large);
  const strip = hasCode("payload_too_large", /1x70000 exceeds 65535 pixels on a side$/);
  await rejects(codec.decode(pngHeader(1, 70_000)), strip);
  await rejects(codec.decode(pngHeader(0, 5)), hasCode("invalid_media", /./));
  await rejects(
    codec.decode(gifHeader(65_535, 65_535)),
    hasCode("payload_too_large", /65535x65535/),
  );
  await rejects(codec.decode(new Uint8Array()), hasCode("invalid_media", /it is empty$/));
  const text = new TextEncoder().encode("<svg/>");
  await rejects(codec.decode(text), hasCode("invalid_media", /not a PNG, JPEG, WebP, GIF or BMP/));
  const field = "messages[0].content[1]";
  await rejects(codec.decode(text, { field }), (error: OperatingError) => error.field === field);
  const huge = new Uint8Array(limits.imageBytesMax + 1);
  await rejects(codec.decode(huge), hasCode("payload_too_large", /bytes exceed/));
  ok(performance.now() - started < 20_000);
});

testBoth("skips compressed text in a PNG", async (codec) => {
  const bomb = await pngWithTextBomb();
  deepStrictEqual(
    (await codec.decode(bomb)).data,
    (await codec.decode(fixture("one_pixel.png"))).data,
  );
});

testBoth("answers truncated files with a picture or an error", async (codec) => {
  for (const name of fixtureNames) {
    const bytes = fixture(name);
    for (let cut = 0; cut < 20; cut++) {
      await settle(codec, bytes.slice(0, Math.floor((bytes.length * cut) / 20)), `${name} ${cut}`);
    }
  }
});

testBoth("survives 200 damaged files", async (codec) => {
  const random = seededRandom(2026);
  for (let round = 0; round < 200; round++) {
    const bytes = fixture(fixtureNames[round % fixtureNames.length]!).slice();
    const flips = 1 + Math.floor(random() * 12);
    for (let flip = 0; flip < flips; flip++) {
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    }
    await settle(codec, bytes, `round ${round}`);
  }
  const image = await codec.decode(fixture("rgb.png"));
  deepStrictEqual(image.data, goldens.get("rgb.png")!.data);
});

Deno.test("inlineCodec() and workerCodec() agree to the byte", async () => {
  const [inline, worker] = [inlineCodec(), workerCodec()];
  for (const name of fixtureNames) {
    const bytes = fixture(name);
    deepStrictEqual(await worker.probe(bytes), await inline.probe(bytes), name);
    deepStrictEqual(await worker.decode(bytes), await inline.decode(bytes), name);
    const request = { ...tileRequest, msac: true };
    const tiles = await worker.prepareTiles(bytes, request);
    deepStrictEqual(tiles, await inline.prepareTiles(bytes, request), name);
  }
  inline.close();
  worker.close();
});

testBoth("stops before work when the signal is aborted", async (codec) => {
  const signal = AbortSignal.abort();
  await rejects(codec.decode(fixture("rgb.png"), { signal }), hasCode("cancelled", /cancelled/));
});

/** Waits for a decode: a whole picture or an operating error are both fine. */
async function settle(codec: Codec, bytes: Uint8Array, label: string): Promise<void> {
  try {
    const image = await codec.decode(bytes);
    strictEqual(image.data.length, image.width * image.height * 3, label);
  } catch (error) {
    ok(error instanceof OperatingError, `${label}: ${error}`);
    ok(error.code === "invalid_media" || error.code === "payload_too_large", label);
    ok(error.message.startsWith("Cannot decode image: "), error.message);
  }
}

/** A PNG chunk with a right checksum. */
function chunk(type: string, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set(new TextEncoder().encode(type), 4);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/** Signature, IHDR (RGB8) and an empty IDAT. */
function pngHeader(width: number, height: number): Uint8Array {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = fixture("rgb.png").slice(0, 8);
  return join(signature, chunk("IHDR", header), chunk("IDAT", new Uint8Array(8)));
}

/** A one-pixel PNG with a zTXt chunk of 200 MB when inflated. */
async function pngWithTextBomb(): Promise<Uint8Array> {
  const zeros = new Blob([new Uint8Array(1 << 20)]).stream();
  const packed = new Uint8Array(
    await new Response(zeros.pipeThrough(new CompressionStream("deflate"))).arrayBuffer(),
  );
  const text = join(new TextEncoder().encode("note\0\0"), packed);
  const bytes = fixture("one_pixel.png");
  const afterHeader = 8 + 25;
  return join(
    bytes.slice(0, afterHeader),
    ...Array.from({ length: 200 }, () => chunk("zTXt", text)),
    bytes.slice(afterHeader),
  );
}

function gifHeader(width: number, height: number): Uint8Array {
  const bytes = fixture("static.gif").slice();
  new DataView(bytes.buffer).setUint16(6, width, true);
  new DataView(bytes.buffer).setUint16(8, height, true);
  return bytes;
}

/** 4x4 frames of one gray level each: 0, 20, 40 and so on, each with its own palette. */
function animatedGif(frames: number): Uint8Array {
  const header = [..."GIF89a"].map((letter) => letter.charCodeAt(0));
  const parts = [Uint8Array.from([...header, 4, 0, 4, 0, 0, 0, 0])];
  for (let frame = 0; frame < frames; frame++) {
    const gray = frame * 20;
    const descriptor = [0x2c, 0, 0, 0, 0, 4, 0, 4, 0, 0x80];
    const palette = [gray, gray, gray, 0, 0, 0];
    // LZW, minimum code size 2, all literal: clear before every second pixel keeps codes 3 bits.
    const codes = [4, ...Array.from({ length: 16 }, (_, k) => (k % 2 ? [0, 4] : [0])).flat(), 5];
    const data = packCodes(codes, 3);
    parts.push(Uint8Array.from([...descriptor, ...palette, 2, data.length, ...data, 0]));
  }
  return join(...parts, Uint8Array.of(0x3b));
}

/** Packs fixed-width codes, least significant bit first. */
function packCodes(codes: readonly number[], width: number): number[] {
  const bits = codes.flatMap((code) => Array.from({ length: width }, (_, k) => (code >> k) & 1));
  const bytes = new Array<number>(Math.ceil(bits.length / 8)).fill(0);
  bits.forEach((bit, index) => bytes[index >> 3]! |= bit << (index & 7));
  return bytes;
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
