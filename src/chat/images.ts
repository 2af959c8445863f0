/**
 * The pictures of a request: loaded, hashed, cut into tiles and kept in a small cache. Owns the
 * bounds on how much of this happens at a time. Loading, decoding and tiling are `media/`.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { Codec } from "@/media/codec.ts";
import type { FrameRequest } from "@/media/codec_protocol.ts";
import type { TiledImage, TileRequest } from "@/media/tiling.ts";
import { prepareAnimation, type VideoReader } from "@/media/animation.ts";
import { sha256 } from "@/sha256.ts";
import type { PictureReference } from "./message.ts";
import type { ServedModel } from "./served_model.ts";

/** Bytes of a picture by URL (`MediaLoader`). Throws OperatingError naming `field`. */
export interface PictureLoader {
  load(url: string, options: { signal: AbortSignal; field: string }): Promise<Uint8Array>;
}

/** What `loadPictures` needs of the model. */
export type PictureSettings = Pick<
  ServedModel,
  | "tileSize"
  | "tokensPerTile"
  | "tilesMax"
  | "wholePictures"
  | "msac"
  | "thumbnail"
  | "uprightPictures"
  | "contextTokens"
>;

/** Tiled pictures by content and way of tiling; forgets the least recently used ones. */
export class TiledImageCache {
  readonly #images = new Map<string, TiledImage>();
  readonly #sizeBytesMax: number;
  #sizeBytes = 0;

  constructor(sizeBytesMax: number = limits.tiledImageCacheBytesMax) {
    this.#sizeBytesMax = sizeBytesMax;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get(key: string): TiledImage | undefined {
    const image = this.#images.get(key);
    if (image === undefined) return undefined;
    this.#images.delete(key);
    this.#images.set(key, image);
    return image;
  }

  set(key: string, image: TiledImage): void {
    if (image.tiles.byteLength > this.#sizeBytesMax) return;
    this.#forget(key);
    this.#images.set(key, image);
    this.#sizeBytes += image.tiles.byteLength;
    for (const oldest of this.#images.keys()) {
      if (this.#sizeBytes <= this.#sizeBytesMax) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    const image = this.#images.get(key);
    if (image === undefined) return;
    this.#images.delete(key);
    this.#sizeBytes -= image.tiles.byteLength;
  }
}

/** Loads and tiles pictures for one or more models. */
export class PictureDesk {
  readonly #loader: PictureLoader;
  readonly #codec: Codec;
  readonly #readVideo: VideoReader;
  readonly #cache: TiledImageCache;

  /** Without `readVideo`, clips are animated pictures only. */
  constructor(options: {
    loader: PictureLoader;
    codec: Codec;
    readVideo?: VideoReader | undefined;
    cache?: TiledImageCache;
  }) {
    this.#loader = options.loader;
    this.#codec = options.codec;
    this.#readVideo = options.readVideo ?? prepareAnimation;
    this.#cache = options.cache ?? new TiledImageCache();
  }

  /**
   * Tiles of all pictures, in their order, a few pictures at a time. The first failure or `signal`
   * ends the work on the others. Throws OperatingError naming the picture's field, and
   * `context_length_exceeded` as soon as the visual tokens alone do not fit.
   */
  async loadPictures(
    pictures: readonly PictureReference[],
    { model, signal }: { model: PictureSettings; signal: AbortSignal },
  ): Promise<TiledImage[]> {
    const failed = new AbortController();
    const anySignal = AbortSignal.any([signal, failed.signal]);
    const images = new Array<TiledImage>(pictures.length);
    const queue = pictures.entries();
    let tokens = 0;
    const work = async () => {
      // All workers share the one iterator, so each picture is taken once.
      for (const [index, picture] of queue) {
        anySignal.throwIfAborted();
        const image = await this.#loadPicture(picture, { model, signal: anySignal });
        images[index] = image;
        tokens += visualTokens(image, model);
        if (tokens >= model.contextTokens) throw tooManyTiles(tokens, model);
      }
    };
    const workerCount = Math.min(limits.imagesLoadingMax, pictures.length);
    const results = await Promise.allSettled(
      Array.from({ length: workerCount }, async () => {
        try {
          await work();
        } catch (error) {
          // Only the first reason counts; what it aborts in the other workers is an echo.
          failed.abort(error);
          throw error;
        }
      }),
    );
    signal.throwIfAborted();
    if (results.some((result) => result.status === "rejected")) throw failed.signal.reason;
    return images;
  }

  async #loadPicture(
    reference: PictureReference,
    { model, signal }: { model: PictureSettings; signal: AbortSignal },
  ): Promise<TiledImage> {
    const { url, field } = reference;
    const bytes = await this.#loader.load(url, { signal, field });
    const work = tilingOf(reference, model);
    const key = `${(await sha256(bytes)).toHex()} ${JSON.stringify(work)}`;
    const cached = this.#cache.get(key);
    if (cached !== undefined) return cached;
    const codec = this.#codec;
    const image = "frames" in work
      ? await this.#readVideo(bytes, work.frames, { codec, signal, field })
      : await codec.prepareTiles(bytes, work.tiles, { signal, field });
    this.#cache.set(key, image);
    return image;
  }
}

/** Visual tokens that all tiles of a picture, or the whole picture, become. */
export function visualTokens(
  { whole, tileCount }: TiledImage,
  { tokensPerTile, wholePictures }: Pick<ServedModel, "tokensPerTile" | "wholePictures">,
): number {
  if (whole === undefined || wholePictures === undefined) return tileCount * tokensPerTile;
  return whole.width * whole.height / wholePictures.multiple ** 2;
}

type Tiling = { readonly tiles: TileRequest } | { readonly frames: FrameRequest };

function tilingOf({ kind, tilesMax }: PictureReference, model: PictureSettings): Tiling {
  const { tileSize, thumbnail, msac } = model;
  if (kind === "clip") return { frames: { count: limits.clipFramesDefault, tileSize } };
  const upright = { tileSize, applyOrientation: model.uprightPictures };
  const single = kind === "frame" || tilesMax === 1;
  if (model.wholePictures !== undefined && !single) {
    const whole = model.wholePictures;
    return { tiles: { ...upright, maxTiles: 1, thumbnail: false, whole } };
  }
  return single
    ? { tiles: { ...upright, maxTiles: 1, thumbnail: false, singleTile: true } }
    : { tiles: { ...upright, maxTiles: tilesMax ?? model.tilesMax, thumbnail, msac } };
}

function tooManyTiles(visualTokens: number, { contextTokens }: PictureSettings): OperatingError {
  return new OperatingError(
    "context_length_exceeded",
    `Cannot fit pictures: at least ${visualTokens} visual tokens exceed the context of ` +
      `${contextTokens} tokens`,
    { field: "messages" },
  );
}
