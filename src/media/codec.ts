/**
 * Owns the codec's interface: untrusted encoded pictures in, RGB pixels or tiles out. Decoding runs
 * in a WASM module with bounded memory, either in workers of its own (`workerCodec()`, the server)
 * or in this isolate (`inlineCodec()`, where there are no workers: no time limit applies there).
 *
 * All methods reject with `OperatingError`: `invalid_media` (not a picture, damaged, too slow),
 * `payload_too_large` (bytes, pixels or sides above `limits`), `overloaded`, `cancelled`.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { compileCodecModule } from "./codec_module.ts";
import { type CodecFiles, CodecPool, type CodecPoolOptions } from "./codec_pool.ts";
import type { CodecCall, CodecExecutor, CodecResults, FrameRequest } from "./codec_protocol.ts";
import { CodecSandbox } from "./codec_sandbox.ts";
import type { ImageHeader, RgbImage } from "./image.ts";
import { assertCount, assertTileRequest, type TiledImage, type TileRequest } from "./tiling.ts";

/** Of one call. */
export interface CodecCallOptions {
  /** Ends the call; a running one loses its worker. */
  readonly signal?: AbortSignal | undefined;
  /** Request field that errors name. */
  readonly field?: string | undefined;
}

export interface DecodeOptions extends CodecCallOptions {
  /** Turns the picture upright by its EXIF orientation. Default true. */
  readonly applyOrientation?: boolean;
}

/** Decodes PNG, JPEG, WebP, GIF and BMP. */
export interface Codec {
  /** Reads the header only. Does not check the pixel budget. */
  probe(bytes: Uint8Array, options?: CodecCallOptions): Promise<ImageHeader>;
  /** The (first) picture as RGB8. Alpha is dropped without compositing, like Pillow's convert. */
  decode(bytes: Uint8Array, options?: DecodeOptions): Promise<RgbImage>;
  /** `count` frames sampled uniformly from an animation; a still picture gives one. */
  decodeFrames(
    bytes: Uint8Array,
    request: { readonly count: number },
    options?: CodecCallOptions,
  ): Promise<RgbImage[]>;
  /** Decode, orient, resize, cut and hash in one call: the caller's thread never sees pixels. */
  prepareTiles(
    bytes: Uint8Array,
    request: TileRequest,
    options?: CodecCallOptions,
  ): Promise<TiledImage>;
  /** `count` uniformly sampled frames of an animation, each resized to one tile. */
  prepareFrames(
    bytes: Uint8Array,
    request: FrameRequest,
    options?: CodecCallOptions,
  ): Promise<TiledImage>;
  /** Ends the workers. Waiting calls reject. */
  close(): void;
}

/** A codec in worker threads: killed on timeout, memory given back after large pictures. */
export function workerCodec(options: CodecPoolOptions = {}): Codec {
  return new ExecutorCodec(new CodecPool(options));
}

/** A codec in this isolate. Calls block it while they decode. */
export function inlineCodec(files: Pick<CodecFiles, "moduleUrl"> = {}): Codec {
  return new ExecutorCodec(new InlineExecutor(files.moduleUrl));
}

class InlineExecutor implements CodecExecutor {
  readonly #moduleUrl: URL | undefined;
  #sandbox: Promise<CodecSandbox> | undefined;

  constructor(moduleUrl: URL | undefined) {
    this.#moduleUrl = moduleUrl;
  }

  async perform<C extends CodecCall>(
    bytes: Uint8Array,
    call: C,
    signal?: AbortSignal,
  ): Promise<CodecResults[C["kind"]]> {
    this.#sandbox ??= compileCodecModule(this.#moduleUrl).then((module) =>
      new CodecSandbox(module)
    );
    const sandbox = await this.#sandbox;
    if (signal?.aborted === true) throw new OperatingError("cancelled", "Decoding was cancelled");
    return await sandbox.perform(bytes, call);
  }

  close(): void {
    this.#sandbox = undefined;
  }
}

class ExecutorCodec implements Codec {
  readonly #executor: CodecExecutor;

  constructor(executor: CodecExecutor) {
    this.#executor = executor;
  }

  probe(bytes: Uint8Array, options: CodecCallOptions = {}): Promise<ImageHeader> {
    return this.#perform(bytes, { kind: "probe" }, options);
  }

  decode(bytes: Uint8Array, options: DecodeOptions = {}): Promise<RgbImage> {
    const applyOrientation = options.applyOrientation ?? true;
    return this.#perform(bytes, { kind: "decode", applyOrientation }, options);
  }

  decodeFrames(
    bytes: Uint8Array,
    { count }: { readonly count: number },
    options: CodecCallOptions = {},
  ): Promise<RgbImage[]> {
    assertCount("count", count, limits.framesPerRequestMax);
    return this.#perform(bytes, { kind: "decodeFrames", count }, options);
  }

  prepareTiles(
    bytes: Uint8Array,
    request: TileRequest,
    options: CodecCallOptions = {},
  ): Promise<TiledImage> {
    assertTileRequest(request);
    return this.#perform(bytes, { kind: "prepareTiles", request }, options);
  }

  prepareFrames(
    bytes: Uint8Array,
    request: FrameRequest,
    options: CodecCallOptions = {},
  ): Promise<TiledImage> {
    assertCount("count", request.count, limits.framesPerRequestMax);
    assertCount("tileSize", request.tileSize, limits.tileSizeMax);
    return this.#perform(bytes, { kind: "prepareFrames", request }, options);
  }

  close(): void {
    this.#executor.close();
  }

  async #perform<C extends CodecCall>(
    bytes: Uint8Array,
    call: C,
    { signal, field }: CodecCallOptions,
  ): Promise<CodecResults[C["kind"]]> {
    try {
      return await this.#executor.perform(bytes, call, signal);
    } catch (error) {
      if (field === undefined || !(error instanceof OperatingError)) throw error;
      const { code, message, detail, retryAfterSeconds } = error;
      throw new OperatingError(code, message, { field, detail, retryAfterSeconds, cause: error });
    }
  }
}
