import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { Codec } from "@/media/codec.ts";
import type { TiledImage } from "@/media/tiling.ts";
import { PictureDesk, type PictureSettings, TiledImageCache } from "./images.ts";
import type { PictureReference } from "./message.ts";

const model: PictureSettings = {
  tileSize: 2,
  tokensPerTile: 4,
  wholePictures: undefined,
  tilesMax: 6,
  msac: false,
  thumbnail: true,
  uprightPictures: true,
  contextTokens: 1000,
};

function tiled(tileCount: number): TiledImage {
  return {
    tileSize: 2,
    grid: { columns: tileCount, rows: 1 },
    tiles: new Uint8Array(tileCount * 12),
    tileCount,
    tileHashes: Array.from({ length: tileCount }, (_, index) => `${index}`),
    sourceWidth: 1,
    sourceHeight: 1,
  };
}

const pictures = (urls: readonly string[]): PictureReference[] =>
  urls.map((url, index) => ({ kind: "image", url, field: `f${index}`, tilesMax: undefined }));

/** A desk whose pictures are named after how long they load and how many tiles they have. */
function newDesk(cache?: TiledImageCache) {
  const seen = { loading: 0, loadingMax: 0, tiled: [] as unknown[], aborted: 0 };
  const loader = {
    async load(url: string, { signal }: { signal: AbortSignal; field: string }) {
      seen.loading += 1;
      seen.loadingMax = Math.max(seen.loadingMax, seen.loading);
      const [ms = 0, name = ""] = url.split(":").map((part, i) => i === 0 ? Number(part) : part);
      await new Promise<void>((resolve, reject) => {
        const stop = () => {
          clearTimeout(timer);
          seen.aborted += 1;
          reject(new OperatingError("cancelled", "Fetch was cancelled"));
        };
        const timer = setTimeout(() => {
          signal.removeEventListener("abort", stop);
          resolve();
        }, Number(ms));
        signal.addEventListener("abort", stop, { once: true });
      });
      seen.loading -= 1;
      if (name === "bad") throw new OperatingError("invalid_media", "Bad picture");
      return new TextEncoder().encode(String(name));
    },
  };
  const codec = {
    prepareTiles(bytes: Uint8Array, request: unknown) {
      seen.tiled.push(request);
      return Promise.resolve(tiled(Number(new TextDecoder().decode(bytes)) || 1));
    },
  } as Partial<Codec> as Codec;
  return { desk: new PictureDesk({ loader, codec, ...(cache && { cache }) }), seen };
}

const never = new AbortController().signal;

Deno.test("PictureDesk keeps the order and loads a few pictures at a time", async () => {
  const { desk, seen } = newDesk();
  const urls = ["30:1", "20:2", "10:3", "1:4", "1:5", "1:6", "1:7"];
  const images = await desk.loadPictures(pictures(urls), { model, signal: never });
  assert.deepEqual(images.map((image) => image.tileCount), [1, 2, 3, 4, 5, 6, 7]);
  assert.equal(seen.loadingMax, limits.imagesLoadingMax);
  assert.deepEqual(await desk.loadPictures([], { model, signal: never }), []);
});

Deno.test("PictureDesk stops the other pictures at the first failure", async () => {
  const { desk, seen } = newDesk();
  const urls = ["5000:1", "5000:2", "5:bad", "5000:3", "5000:4"];
  const startMs = performance.now();
  await assert.rejects(
    desk.loadPictures(pictures(urls), { model, signal: never }),
    (error) => error instanceof OperatingError && error.code === "invalid_media",
  );
  assert.ok(performance.now() - startMs < 2000);
  assert.equal(seen.aborted, 3);
  assert.equal(seen.loadingMax, 4, "the fifth never began");
});

Deno.test("PictureDesk throws the signal's reason when the client leaves", async () => {
  const { desk } = newDesk();
  const client = new AbortController();
  const loading = desk.loadPictures(pictures(["5000:1"]), { model, signal: client.signal });
  const reason = new OperatingError("cancelled", "Client left");
  client.abort(reason);
  await assert.rejects(loading, (error) => error === reason);
});

Deno.test("PictureDesk refuses pictures whose tokens cannot fit before it loads them all", async () => {
  const { desk, seen } = newDesk();
  const urls = new Array(50).fill("1:30");
  await assert.rejects(
    desk.loadPictures(pictures(urls), { model, signal: never }),
    (error) => error instanceof OperatingError && error.code === "context_length_exceeded",
  );
  assert.ok(seen.tiled.length < 20, `${seen.tiled.length} pictures were tiled`);
});

Deno.test("PictureDesk caches by content and by way of tiling", async () => {
  const { desk, seen } = newDesk();
  const load = async (reference: Partial<PictureReference>) => {
    const [picture] = pictures(["0:3"]);
    await desk.loadPictures([{ ...picture!, ...reference }], { model, signal: never });
    return seen.tiled.length;
  };
  assert.equal(await load({}), 1);
  assert.equal(await load({ field: "other" }), 1);
  assert.equal(await load({ tilesMax: 4 }), 2);
  assert.equal(await load({ tilesMax: 1 }), 3);
  assert.equal(await load({ kind: "frame" }), 3, "a frame is a picture of one tile");
  assert.deepEqual(seen.tiled.at(-1), {
    tileSize: 2,
    applyOrientation: true,
    maxTiles: 1,
    thumbnail: false,
    singleTile: true,
  });
});

Deno.test("TiledImageCache forgets the least recently used pictures", () => {
  const cache = new TiledImageCache(100);
  cache.set("a", tiled(3));
  cache.set("b", tiled(3));
  cache.get("a");
  cache.set("c", tiled(3));
  assert.equal(cache.get("b"), undefined);
  assert.ok(cache.get("a") && cache.get("c"));
  assert.equal(cache.sizeBytes, 72);
  cache.set("c", tiled(1));
  assert.equal(cache.sizeBytes, 48);
  cache.set("huge", tiled(9));
  assert.equal(cache.get("huge"), undefined);
  assert.equal(cache.sizeBytes, 48);
});
