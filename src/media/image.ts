/** Owns the plain data of pictures: pixels and headers. Decoding lives in `codec.ts`. */

/** Pixels as `[height, width, 3]` u8, RGB, row-major. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** What a picture's header says, read without decoding it. */
export interface ImageHeader {
  readonly format: "png" | "jpeg" | "webp" | "gif" | "bmp";
  /** Stored width in pixels, before orientation. */
  readonly width: number;
  /** Stored height in pixels, before orientation. */
  readonly height: number;
  /** EXIF orientation, 1 (upright) to 8. */
  readonly orientation: number;
  /** Frames of an animated GIF or WebP, else 1. */
  readonly frames: number;
}
