/* tslint:disable */
/* eslint-disable */

export class Animation {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    /**
     * Frame `index`, composited. Indexes must grow from call to call.
     */
    frame(index: number): Picture;
    readonly frameCount: number;
}

/**
 * What a picture's header says.
 */
export class Header {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    /**
     * `png`, `jpeg`, `webp`, `gif` or `bmp`.
     */
    readonly format: string;
    /**
     * Number of frames of an animated WebP or GIF, else 1. Frames of a GIF are counted up to the
     * first damaged one.
     */
    readonly frames: number;
    /**
     * Stored height in pixels, before orientation.
     */
    readonly height: number;
    /**
     * EXIF orientation 1..=8; 1 when the file has none.
     */
    readonly orientation: number;
    /**
     * Stored width in pixels, before orientation.
     */
    readonly width: number;
}

export class Picture {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    /**
     * A copy of all pixels, `[height, width, 3]`.
     */
    data(): Uint8Array;
    /**
     * Turns the picture upright given its EXIF orientation (1..=8).
     */
    orient(orientation: number): Picture;
    /**
     * Pillow's bicubic `Image.resize`, bit for bit.
     */
    resize(width: number, height: number): Picture;
    /**
     * Cuts the picture into `size` x `size` tiles, row by row: `[rows * columns, size, size, 3]`.
     * Both sides must be multiples of `size`.
     */
    tiles(size: number): Uint8Array;
    readonly height: number;
    readonly width: number;
}

export function __wbg_reset_state(): void;

/**
 * Decodes the (first) picture in `bytes` to RGB8, refusing sizes outside the budget.
 */
export function decode(bytes: Uint8Array | number[], pixels_max: number, side_max: number): Picture;

/**
 * Opens an animated GIF or WebP. A still picture opens as an animation of one frame.
 */
export function openAnimation(bytes: Uint8Array | number[], pixels_max: number, side_max: number, frames_max: number): Animation;

/**
 * Wraps caller-supplied pixels: the way into `resize` for tests and raw frames.
 */
export function pictureFromRgb(width: number, height: number, rgb: Uint8Array | number[]): Picture;

/**
 * Reads the header of a picture: nothing proportional to its pixels is allocated.
 */
export function probe(bytes: Uint8Array | number[]): Header;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly memory: WebAssembly.Memory;
    readonly __wbg_animation_free: (a: number, b: number) => void;
    readonly __wbg_header_free: (a: number, b: number) => void;
    readonly __wbg_picture_free: (a: number, b: number) => void;
    readonly animation_frame: (a: number, b: number) => [number, number, number];
    readonly animation_frameCount: (a: number) => number;
    readonly decode: (a: number, b: number, c: number, d: number) => [number, number, number];
    readonly header_format: (a: number) => [number, number];
    readonly header_frames: (a: number) => number;
    readonly header_height: (a: number) => number;
    readonly header_orientation: (a: number) => number;
    readonly header_width: (a: number) => number;
    readonly openAnimation: (a: number, b: number, c: number, d: number, e: number) => [number, number, number];
    readonly pictureFromRgb: (a: number, b: number, c: number, d: number) => [number, number, number];
    readonly picture_data: (a: number) => [number, number];
    readonly picture_height: (a: number) => number;
    readonly picture_orient: (a: number, b: number) => number;
    readonly picture_resize: (a: number, b: number, c: number) => number;
    readonly picture_tiles: (a: number, b: number) => [number, number];
    readonly picture_width: (a: number) => number;
    readonly probe: (a: number, b: number) => [number, number, number];
    readonly __wbindgen_externrefs: WebAssembly.Table;
    readonly __externref_table_dealloc: (a: number) => void;
    readonly __wbindgen_malloc: (a: number, b: number) => number;
    readonly __wbindgen_free: (a: number, b: number, c: number) => void;
    readonly __wbindgen_start: () => void;
}

export type SyncInitInput = BufferSource | WebAssembly.Module;

/**
 * Instantiates the given `module`, which can either be bytes or
 * a precompiled `WebAssembly.Module`.
 *
 * @param {{ module: SyncInitInput }} module - Passing `SyncInitInput` directly is deprecated.
 *
 * @returns {InitOutput}
 */
export function initSync(module: { module: SyncInitInput } | SyncInitInput): InitOutput;

/**
 * If `module_or_path` is {RequestInfo} or {URL}, makes a request and
 * for everything else, calls `WebAssembly.instantiate` directly.
 *
 * @param {{ module_or_path: InitInput | Promise<InitInput> }} module_or_path - Passing `InitInput` directly is deprecated.
 *
 * @returns {Promise<InitOutput>}
 */
export default function __wbg_init (module_or_path?: { module_or_path: InitInput | Promise<InitInput> } | InitInput | Promise<InitInput>): Promise<InitOutput>;
