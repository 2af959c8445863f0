/* tslint:disable */
/* eslint-disable */
export const memory: WebAssembly.Memory;
export const __wbg_animation_free: (a: number, b: number) => void;
export const __wbg_header_free: (a: number, b: number) => void;
export const __wbg_picture_free: (a: number, b: number) => void;
export const animation_frame: (a: number, b: number) => [number, number, number];
export const animation_frameCount: (a: number) => number;
export const decode: (a: number, b: number, c: number, d: number) => [number, number, number];
export const header_format: (a: number) => [number, number];
export const header_frames: (a: number) => number;
export const header_height: (a: number) => number;
export const header_orientation: (a: number) => number;
export const header_width: (a: number) => number;
export const openAnimation: (a: number, b: number, c: number, d: number, e: number) => [number, number, number];
export const pictureFromRgb: (a: number, b: number, c: number, d: number) => [number, number, number];
export const picture_data: (a: number) => [number, number];
export const picture_height: (a: number) => number;
export const picture_orient: (a: number, b: number) => number;
export const picture_resize: (a: number, b: number, c: number) => number;
export const picture_tiles: (a: number, b: number) => [number, number];
export const picture_width: (a: number) => number;
export const probe: (a: number, b: number) => [number, number, number];
export const __wbindgen_externrefs: WebAssembly.Table;
export const __externref_table_dealloc: (a: number) => void;
export const __wbindgen_malloc: (a: number, b: number) => number;
export const __wbindgen_free: (a: number, b: number, c: number) => void;
export const __wbindgen_start: () => void;
