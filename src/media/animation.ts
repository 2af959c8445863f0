/**
 * Owns sampling frames from animated pictures (GIF, WebP) through the codec, and telling them from
 * the container files of videos, which `video.ts` reads where there is `ffmpeg`. Does not decide how
 * many frames a prompt gets.
 */
import { OperatingError } from "@/errors.ts";
import type { Codec } from "./codec.ts";
import type { FrameRequest } from "./codec_protocol.ts";
import type { TiledImage } from "./tiling.ts";

export interface VideoOptions {
  readonly codec: Codec;
  readonly signal?: AbortSignal | undefined;
  /** Request field that errors name. */
  readonly field?: string | undefined;
}

/**
 * Samples `count` frames uniformly and resizes each to one tile, in order. The source size of the
 * answer is that of the frames. Rejects with `OperatingError`: `invalid_media` when the bytes cannot
 * be decoded, else as `Codec.prepareTiles()`.
 */
export type VideoReader = (
  bytes: Uint8Array,
  request: FrameRequest,
  options: VideoOptions,
) => Promise<TiledImage>;

/**
 * Signatures of container formats and the ffmpeg demuxer that may read them. The demuxer is forced:
 * ffmpeg's own probing could pick a playlist format, which opens other files.
 */
const CONTAINERS: readonly { demuxer: string; offset: number; signature: readonly number[] }[] = [
  { demuxer: "mov", offset: 4, signature: [0x66, 0x74, 0x79, 0x70] }, // ISO media: "ftyp"
  { demuxer: "matroska", offset: 0, signature: [0x1a, 0x45, 0xdf, 0xa3] }, // also WebM
  { demuxer: "avi", offset: 8, signature: [0x41, 0x56, 0x49, 0x20] }, // RIFF "AVI "
  { demuxer: "ogg", offset: 0, signature: [0x4f, 0x67, 0x67, 0x53] },
  { demuxer: "flv", offset: 0, signature: [0x46, 0x4c, 0x56, 0x01] },
];

/** Reads animated pictures and refuses container files. */
export const prepareAnimation: VideoReader = async (bytes, request, { codec, signal, field }) => {
  if (containerOf(bytes) === undefined) {
    return await codec.prepareFrames(bytes, request, { signal, field });
  }
  const message = "Cannot decode video: only animated GIF and WebP are read here";
  throw new OperatingError("invalid_media", message, { field });
};

/** The demuxer for a container file, or undefined for anything else. */
export function containerOf(bytes: Uint8Array): string | undefined {
  return CONTAINERS.find(({ offset, signature }) =>
    signature.every((byte, index) => bytes[offset + index] === byte)
  )?.demuxer;
}
