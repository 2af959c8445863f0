import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { workerCodec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { FIXTURES, json, testApp } from "./test_app.ts";

/** The application with the real loader and decoder. */
function pictureTest(
  name: string,
  body: (app: ReturnType<typeof testApp>) => Promise<void>,
): void {
  Deno.test(name, async () => {
    const codec = workerCodec();
    try {
      await body(testApp({ app: { codec, mediaLoader: new MediaLoader({ allowedHosts: [] }) } }));
    } finally {
      codec.close();
    }
  });
}

async function fixture(path: string): Promise<Uint8Array> {
  return await Deno.readFile(join(FIXTURES, path));
}

const dataUrl = (bytes: Uint8Array, type = "image/png") =>
  `data:${type};base64,${bytes.toBase64()}`;
const ask = (...urls: string[]) => ({
  messages: [{
    role: "user",
    content: [
      ...urls.map((url) => ({ type: "image_url", image_url: { url } })),
      { type: "text", text: "what?" },
    ],
  }],
});

/** A PNG whose header promises `width` x `height` pixels. */
async function pngBomb(width: number, height: number): Promise<Uint8Array> {
  const bytes = await fixture("image_decode/rgb.png");
  const view = new DataView(bytes.buffer);
  view.setUint32(16, width);
  view.setUint32(20, height);
  view.setUint32(29, crc32(bytes.subarray(12, 29)));
  return bytes;
}

pictureTest("pictures of every format reach the engine as tiles", async ({ post, generator }) => {
  const names = ["rgb.png", "progressive_420.jpg", "cmyk.jpg", "q80.webp", "static.gif", "rgb.bmp"];
  for (const name of names) {
    const bytes = await fixture(`image_decode/${name}`);
    const response = await post("/v1/chat/completions", ask(dataUrl(bytes, "image/any")));
    assert.equal(response.status, 200, `${name}: ${await response.text()}`);
    const { tiles } = generator.submissions.at(-1)!;
    assert.ok(tiles.length >= 1 && tiles.every((tile) => tile.pixels.length === 56 * 56 * 3), name);
  }
});

pictureTest(
  "a picture sent twice is decoded once and has equal tiles",
  async ({ post, generator }) => {
    const url = dataUrl(await fixture("dense/images/big.png"));
    await json(post("/v1/chat/completions", ask(url)));
    await json(post("/v1/chat/completions", ask(url)));
    const [first, second] = generator.submissions.map((submission) => submission.tiles);
    assert.ok(first!.length > 1);
    assert.deepEqual(first!.map((tile) => tile.hash), second!.map((tile) => tile.hash));
    assert.equal(first![0]!.pixels.buffer, second![0]!.pixels.buffer, "from the cache");
    const digest = (pixels: Uint8Array) => createHash("sha256").update(pixels).digest("hex");
    assert.equal(
      new Set(first!.map((tile) => digest(tile.pixels))).size,
      new Set(first!.map((tile) => tile.hash)).size,
    );
  },
);

pictureTest(
  "hostile pictures are each refused by field, and the server goes on",
  async ({ post }) => {
    const png = await fixture("image_decode/rgb.png");
    const jpeg = await fixture("image_decode/q75_420.jpg");
    const webp = await fixture("image_decode/q80.webp");
    const cases: [name: string, url: string][] = [
      ["empty", "data:image/png;base64,"],
      ["bad base64", "data:image/png;base64,@@@@"],
      ["text", dataUrl(new TextEncoder().encode("not a picture at all"))],
      ["zeros", dataUrl(new Uint8Array(1000))],
      ["a bomb", dataUrl(await pngBomb(100_000, 100_000))],
      ["a flat bomb", dataUrl(await pngBomb(0x7fffffff, 1))],
      ["no pixels", dataUrl(await pngBomb(0, 5))],
      ["html", "data:text/html,<script>"],
      ["a local file", "file:///etc/passwd"],
      ["a loopback address", "http://127.0.0.1/a.png"],
      ["a metadata service", "http://169.254.169.254/latest"],
      ["no URL", "picture.png"],
      ["another scheme", "ftp://example.com/a.png"],
      ...[0.05, 0.3, 0.6].flatMap((part): [string, string][] =>
        [png, jpeg, webp].map((bytes) => [
          `${part} of a file of ${bytes.length} bytes`,
          dataUrl(bytes.subarray(0, Math.floor(bytes.length * part))),
        ])
      ),
    ];
    for (const [name, url] of cases) {
      const response = await post("/v1/chat/completions", ask(url));
      const text = await response.text();
      assert.ok(
        response.status >= 400 && response.status < 500,
        `${name}: ${response.status} ${text}`,
      );
      const { error } = JSON.parse(text);
      assert.equal(error.param, "messages[0].content[0].image_url.url", `${name}: ${text}`);
      assert.ok(!error.message.includes("base64,"), "no picture is echoed");
    }
    assert.equal((await post("/v1/chat/completions", ask(dataUrl(png)))).status, 200);
  },
);

pictureTest("max_tiles and low detail bound the tiles", async ({ post }) => {
  const url = dataUrl(await fixture("dense/images/big.png"));
  const tilesOf = async (fields: object, detail = "auto") => {
    const [message] = ask(url).messages;
    const content = [{ type: "image_url", image_url: { url, detail } }];
    const body = { messages: [{ ...message, content }], ...fields };
    return (await json(post("/render", body))).tiles;
  };
  assert.equal(await tilesOf({}), 7, "a grid of six and the thumbnail");
  assert.ok(await tilesOf({ max_tiles: 2 }) <= 3);
  assert.equal(await tilesOf({ max_tiles: 1 }), 1);
  assert.equal(await tilesOf({}, "low"), 1);
});
