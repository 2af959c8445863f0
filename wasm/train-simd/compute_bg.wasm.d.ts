/* tslint:disable */
/* eslint-disable */
export const memory: WebAssembly.Memory;
export const madd_is_fused: () => number;
export const run_alone: (a: number, b: number, c: number) => void;
export const table_hash: () => number;
export const work: (a: number, b: number, c: number) => void;
export const __wbindgen_externrefs: WebAssembly.Table;
export const __wbindgen_start: () => void;
