/**
 * Owns the instance of the codec module in this isolate: runs calls on it, turns its failures into
 * operating errors and replaces it when it trapped or grew large. Knows no workers and no time
 * limits. All of it is synchronous but for hashing.
 */
import {
  __wbg_reset_state as replaceInstance,
  type Animation,
  decode,
  initSync,
  openAnimation,
  type Picture,
  probe,
} from "../../wasm/codec/codec.js";
import { unreachable } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { sha256 } from "@/sha256.ts";
import type { CodecCall, CodecResults, FrameRequest } from "./codec_protocol.ts";
import type { ImageHeader, RgbImage } from "./image.ts";
import {
  concatenate,
  type Grid,
  planTiles,
  type TiledImage,
  type TileRequest,
  type WholeRequest,
  wholeSize,
} from "./tiling.ts";

const HASH_BYTES = 16;

/** Runs codec calls on the module's instance of this isolate. */
export class CodecSandbox {
  readonly #module: WebAssembly.Module;

  constructor(module: WebAssembly.Module) {
    this.#module = module;
    initSync({ module });
  }

  /** Does one call. Throws `OperatingError` when the bytes are not a picture within the limits. */
  async perform<C extends CodecCall>(
    bytes: Uint8Array,
    call: C,
  ): Promise<CodecResults[C["kind"]]> {
    const perform = async (call: CodecCall): Promise<CodecResults[CodecCall["kind"]]> => {
      switch (call.kind) {
        case "probe":
          return this.#run(() => readHeader(bytes));
        case "decode":
          return this.#run(() => decodeImage(bytes, call.applyOrientation));
        case "decodeFrames":
          return this.#run(() => decodeFrames(bytes, call.count));
        case "prepareTiles":
          return await hashTiles(this.#run(() => cutTiles(bytes, call.request)));
        case "prepareFrames":
          return await hashTiles(this.#run(() => cutFrames(bytes, call.request)));
        default:
          return unreachable(call, "codec call");
      }
    };
    return await perform(call) as CodecResults[C["kind"]];
  }

  /** Linear memory of the instance, in bytes. */
  get memoryBytes(): number {
    // The glue answers the running instance's exports once it has one.
    return initSync({ module: this.#module }).memory.buffer.byteLength;
  }

  #run<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof OperatingError) throw error;
      // The module reports bad bytes as plain errors; anything else left it in an unknown state.
      if (error instanceof Error && error.constructor === Error) {
        throw new OperatingError("invalid_media", `Cannot decode image: ${error.message}`);
      }
      replaceInstance();
      throw new OperatingError("invalid_media", "Cannot decode image: the decoder gave up on it", {
        cause: error,
        detail: String(error),
      });
    } finally {
      // Linear memory never shrinks, so one large picture would hold its peak for ever.
      if (this.memoryBytes > limits.codecMemoryRetainedBytesMax) replaceInstance();
    }
  }
}

/** A `TiledImage` before hashing. */
type UnhashedTiles = Omit<TiledImage, "tileHashes">;

function readHeader(bytes: Uint8Array): ImageHeader {
  if (bytes.length > limits.imageBytesMax) {
    throw new OperatingError(
      "payload_too_large",
      `Cannot decode image: ${bytes.length} bytes exceed ${limits.imageBytesMax}`,
    );
  }
  using header = probe(bytes);
  const { format, width, height, orientation, frames } = header;
  return { format: format as ImageHeader["format"], width, height, orientation, frames };
}

/** Reads the header and refuses what is too large before a pixel is allocated. */
function checkedHeader(bytes: Uint8Array): ImageHeader {
  const header = readHeader(bytes);
  const { width, height } = header;
  const size = `Cannot decode image: ${width}x${height}`;
  if (width * height > limits.imagePixelsMax) {
    throw new OperatingError(
      "payload_too_large",
      `${size} exceeds ${limits.imagePixelsMax} pixels`,
    );
  }
  if (Math.max(width, height) > limits.imageSideMax) {
    throw new OperatingError(
      "payload_too_large",
      `${size} exceeds ${limits.imageSideMax} pixels on a side`,
    );
  }
  return header;
}

/** Decodes and turns upright; the caller frees the picture. */
function decodePicture(bytes: Uint8Array, applyOrientation: boolean): Picture {
  const { orientation } = checkedHeader(bytes);
  const stored = decode(bytes, limits.imagePixelsMax, limits.imageSideMax);
  if (!applyOrientation || orientation === 1) return stored;
  using _stored = stored;
  return stored.orient(orientation);
}

function decodeImage(bytes: Uint8Array, applyOrientation: boolean): RgbImage {
  using picture = decodePicture(bytes, applyOrientation);
  return toImage(picture);
}

function toImage(picture: Picture): RgbImage {
  return { width: picture.width, height: picture.height, data: picture.data() };
}

/** The picture at its own size, as one "tile" of no fixed side. */
function keepWhole(picture: Picture, whole: WholeRequest, tileSize: number): UnhashedTiles {
  const size = wholeSize(picture.width, picture.height, whole);
  using resized = picture.resize(size.width, size.height);
  return {
    tileSize,
    grid: { columns: 1, rows: 1 },
    tiles: resized.data(),
    tileCount: 1,
    whole: size,
    sourceWidth: picture.width,
    sourceHeight: picture.height,
  };
}

function cutTiles(bytes: Uint8Array, request: TileRequest): UnhashedTiles {
  using picture = decodePicture(bytes, request.applyOrientation);
  if (request.whole !== undefined) return keepWhole(picture, request.whole, request.tileSize);
  const { tileSize } = request;
  const plan = planTiles(picture.width, picture.height, request);
  const tileBytes = tileSize * tileSize * 3;
  const first = tilesOfGrid(picture, plan.grid, tileSize);
  const list = [first];
  if (plan.thumbnail) list.push(tilesOfGrid(picture, { columns: 1, rows: 1 }, tileSize));
  if (plan.secondGrid !== undefined) {
    const last = plan.thumbnail ? list.pop()! : first.subarray(first.length - tileBytes);
    if (!plan.thumbnail) list[0] = first.subarray(0, first.length - tileBytes);
    list.push(tilesOfGrid(picture, plan.secondGrid, tileSize), last);
  }
  return {
    tileSize,
    grid: plan.grid,
    tiles: concatenate(list),
    tileCount: plan.tileCount,
    sourceWidth: picture.width,
    sourceHeight: picture.height,
  };
}

/** Stretches the picture to the grid and cuts it: `[rows * columns, tileSize, tileSize, 3]`. */
function tilesOfGrid(picture: Picture, grid: Grid, tileSize: number): Uint8Array {
  using stretched = picture.resize(grid.columns * tileSize, grid.rows * tileSize);
  return stretched.tiles(tileSize);
}

function cutFrames(bytes: Uint8Array, request: FrameRequest): UnhashedTiles {
  const { tileSize } = request;
  const { width, height } = checkedHeader(bytes);
  const grid = { columns: 1, rows: 1 };
  const tiles = sampleFrames(bytes, request.count, (frame) => tilesOfGrid(frame, grid, tileSize));
  return {
    tileSize,
    grid,
    tiles: concatenate(tiles),
    tileCount: tiles.length,
    sourceWidth: width,
    sourceHeight: height,
  };
}

function decodeFrames(bytes: Uint8Array, count: number): RgbImage[] {
  const { width, height, frames } = checkedHeader(bytes);
  const kept = Math.min(count, frames);
  if (width * height * kept > limits.imagePixelsMax) {
    throw new OperatingError(
      "payload_too_large",
      `Cannot decode image: ${kept} frames of ${width}x${height} exceed ` +
        `${limits.imagePixelsMax} pixels`,
    );
  }
  return sampleFrames(bytes, count, toImage);
}

/** Visits `count` frames in the middle of equal parts of the animation, one in memory at a time. */
function sampleFrames<T>(bytes: Uint8Array, count: number, visit: (frame: Picture) => T): T[] {
  const { imagePixelsMax, imageSideMax, animationFramesMax } = limits;
  using animation: Animation = openAnimation(
    bytes,
    imagePixelsMax,
    imageSideMax,
    animationFramesMax,
  );
  return sampleIndexes(animation.frameCount, count).map((index) => {
    using frame = animation.frame(index);
    return visit(frame);
  });
}

/** Middles of `count` equal parts of `total` frames; every frame when there are fewer. */
export function sampleIndexes(total: number, count: number): number[] {
  const kept = Math.min(total, count);
  return Array.from({ length: kept }, (_, k) => Math.floor(((k + 0.5) * total) / kept));
}

async function hashTiles(image: UnhashedTiles): Promise<TiledImage> {
  const tileBytes = image.tiles.length / image.tileCount;
  const tileHashes = await Promise.all(
    Array.from({ length: image.tileCount }, async (_, index) => {
      const tile = image.tiles.subarray(index * tileBytes, (index + 1) * tileBytes);
      return (await sha256(tile)).subarray(0, HASH_BYTES).toHex();
    }),
  );
  return { ...image, tileHashes };
}
