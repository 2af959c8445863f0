/**
 * Owns the calls of the codec and their messages between the main thread and a codec worker. Shared
 * by the in-isolate and the worker implementation, so both do the same work.
 */
import type { ErrorCode } from "@/errors.ts";
import type { ImageHeader, RgbImage } from "./image.ts";
import type { TiledImage, TileRequest } from "./tiling.ts";

/** Frames of an animation as tiles. */
export interface FrameRequest {
  /** Frames wanted; all are taken when the animation has fewer. */
  readonly count: number;
  /** Side of a tile in pixels. */
  readonly tileSize: number;
}

/** One piece of work on one encoded picture. */
export type CodecCall =
  | { readonly kind: "probe" }
  | { readonly kind: "decode"; readonly applyOrientation: boolean }
  | { readonly kind: "decodeFrames"; readonly count: number }
  | { readonly kind: "prepareTiles"; readonly request: TileRequest }
  | { readonly kind: "prepareFrames"; readonly request: FrameRequest };

/** What each call answers. */
export interface CodecResults {
  readonly probe: ImageHeader;
  readonly decode: RgbImage;
  readonly decodeFrames: RgbImage[];
  readonly prepareTiles: TiledImage;
  readonly prepareFrames: TiledImage;
}

/** Does calls somewhere: in this isolate or in a worker. */
export interface CodecExecutor {
  /** Rejects with an `OperatingError` when the bytes are at fault. */
  perform<C extends CodecCall>(
    bytes: Uint8Array,
    call: C,
    signal?: AbortSignal,
  ): Promise<CodecResults[C["kind"]]>;
  /** Ends running and waiting calls and frees everything. */
  close(): void;
}

/** To a worker: once the compiled module, then calls, one at a time. */
export type WorkerRequest =
  | { readonly kind: "start"; readonly module: WebAssembly.Module }
  | { readonly kind: "call"; readonly bytes: Uint8Array; readonly call: CodecCall };

/** From a worker: `ready` once, then one answer per call. */
export type WorkerReply =
  | { readonly kind: "ready" }
  | { readonly kind: "result"; readonly value: CodecResults[CodecCall["kind"]] }
  | { readonly kind: "failure"; readonly code: ErrorCode; readonly message: string };

/** The buffers of a result, to be moved instead of copied. */
export function transferablesOf(value: CodecResults[CodecCall["kind"]]): ArrayBuffer[] {
  if (Array.isArray(value)) return value.flatMap(transferablesOf);
  if ("tiles" in value) return [value.tiles.buffer as ArrayBuffer];
  if ("data" in value) return [value.data.buffer as ArrayBuffer];
  return [];
}
