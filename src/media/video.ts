/**
 * Owns sampling frames from the container files of videos, through the system's `ffmpeg`, when it is
 * installed, as a subprocess bounded in time and output. Animated pictures are `animation.ts`'s.
 */
import { join } from "node:path";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { containerOf, prepareAnimation, type VideoOptions } from "./animation.ts";
import type { FrameRequest } from "./codec_protocol.ts";
import { concatenate, type TiledImage } from "./tiling.ts";

export interface VideoToolOptions extends VideoOptions {
  /** Folder of `ffmpeg` and `ffprobe`; default: found on PATH. */
  readonly toolFolder?: string;
  /** Default `limits.videoTimeoutMs`. */
  readonly timeoutMs?: number;
}

/** Signature and length of a BMP file. */
const BMP_PREFIX_BYTES = 6;

/** Frames per second sampled from files that do not tell their duration. */
const FALLBACK_RATE = 1;

/**
 * Samples `count` frames uniformly and resizes each to one tile, in order. The source size of the
 * answer is that of the frames. Rejects with `OperatingError`: `invalid_media` when the bytes cannot
 * be decoded or ffmpeg is missing, else as `Codec.prepareTiles()`.
 */
export async function prepareVideo(
  bytes: Uint8Array,
  request: FrameRequest,
  options: VideoToolOptions,
): Promise<TiledImage> {
  const { signal, field } = options;
  const demuxer = containerOf(bytes);
  if (demuxer === undefined) return await prepareAnimation(bytes, request, options);
  const folder = await Deno.makeTempDir({ prefix: "flotilla-video-" });
  const deadline = new AbortController();
  const timeoutMs = options.timeoutMs ?? limits.videoTimeoutMs;
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  const stop = signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, signal]);
  try {
    const path = join(folder, "video"); // containers keep their index anywhere, so no pipe
    await Deno.writeFile(path, bytes);
    const input = ["-protocol_whitelist", "file", "-f", demuxer, "-i", path];
    return await sampleContainer(input, request, { ...options, signal: stop });
  } catch (error) {
    if (signal?.aborted === true) throw new OperatingError("cancelled", "Decoding was cancelled");
    if (deadline.signal.aborted) throw invalid(`it takes longer than ${timeoutMs} ms`, field);
    throw error;
  } finally {
    clearTimeout(timer);
    await Deno.remove(folder, { recursive: true });
  }
}

async function sampleContainer(
  input: readonly string[],
  request: FrameRequest,
  options: VideoToolOptions,
): Promise<TiledImage> {
  const seconds = await durationOf(input, options);
  const { count, tileSize } = request;
  const rate = seconds === undefined ? `${FALLBACK_RATE}` : `${count}/${seconds}`;
  // Time is shifted by half a step, so that frames come from the middles of equal parts.
  const shift = seconds === undefined ? 0 : seconds / count / 2;
  const filter = `setpts=PTS-STARTPTS-${shift.toFixed(6)}/TB,fps=${rate}:start_time=0`;
  const bounds = ["-threads", "1", "-max_pixels", `${limits.imagePixelsMax}`];
  const output = ["-an", "-sn", "-dn", "-vf", filter, "-frames:v", `${count}`];
  const format = ["-c:v", "bmp", "-pix_fmt", "bgr24", "-f", "image2pipe", "-"];
  const command = ["-nostdin", "-v", "error", ...bounds, ...input, ...output, ...format];
  const process = spawn("ffmpeg", command, options);
  const tileRequest = {
    tileSize,
    maxTiles: 1,
    thumbnail: false,
    applyOrientation: false,
    singleTile: true,
  };
  const frames: TiledImage[] = [];
  try {
    for await (const bmp of splitBmps(process.stdout)) {
      const { codec, signal, field } = options;
      frames.push(await codec.prepareTiles(bmp, tileRequest, { signal, field }));
      if (frames.length === count) break;
    }
  } finally {
    stopProcess(process);
    await process.status;
  }
  if (options.signal?.aborted === true) throw options.signal.reason;
  const first = frames[0];
  if (first === undefined) throw invalid("it has no frame that can be decoded", options.field);
  return {
    ...first,
    tiles: concatenate(frames.map((frame) => frame.tiles)),
    tileCount: frames.length,
    tileHashes: frames.flatMap((frame) => frame.tileHashes),
  };
}

/** Seconds of the file, or undefined when it does not say. */
async function durationOf(
  input: readonly string[],
  options: VideoToolOptions,
): Promise<number | undefined> {
  const show = ["-show_entries", "format=duration", "-of", "csv=p=0"];
  const process = spawn("ffprobe", ["-v", "error", ...input, ...show], options);
  const text = await new Response(process.stdout).text();
  const { success } = await process.status;
  if (options.signal?.aborted === true) throw options.signal.reason;
  if (!success) throw invalid("its container is damaged", options.field);
  const seconds = Number.parseFloat(text);
  return seconds > 0 ? seconds : undefined;
}

function spawn(tool: string, args: string[], options: VideoToolOptions): Deno.ChildProcess {
  const path = options.toolFolder === undefined ? tool : join(options.toolFolder, tool);
  try {
    return new Deno.Command(path, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotCapable) {
      throw invalid(
        `reading this container needs ffmpeg, and ${tool} is not installed`,
        options.field,
      );
    }
    throw error;
  }
}

function stopProcess(process: Deno.ChildProcess): void {
  try {
    process.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended already
  }
}

/**
 * Splits a stream of BMP files, each of which tells its length at byte 2. Throws `OperatingError`
 * when one is longer than a picture may be. A cut-off last file is dropped.
 */
export async function* splitBmps(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  // Grows from the part that tells the length to the whole file.
  let file = new Uint8Array(BMP_PREFIX_BYTES);
  let filled = 0;
  for await (const part of stream) {
    for (let offset = 0; offset < part.length;) {
      const taken = part.subarray(offset, offset + file.length - filled);
      file.set(taken, filled);
      filled += taken.length;
      offset += taken.length;
      if (filled < file.length) continue;
      if (filled === BMP_PREFIX_BYTES) {
        const whole = new Uint8Array(bmpLength(file));
        whole.set(file);
        file = whole;
      } else {
        yield file;
        file = new Uint8Array(BMP_PREFIX_BYTES);
        filled = 0;
      }
    }
  }
}

function bmpLength(prefix: Uint8Array): number {
  const length = new DataView(prefix.buffer).getUint32(2, true);
  if (length <= BMP_PREFIX_BYTES || length > limits.imageBytesMax) {
    const message = `Cannot decode video: ${length} bytes per frame exceed ${limits.imageBytesMax}`;
    throw new OperatingError("payload_too_large", message);
  }
  return length;
}

function invalid(reason: string, field: string | undefined): OperatingError {
  return new OperatingError("invalid_media", `Cannot decode video: ${reason}`, { field });
}
