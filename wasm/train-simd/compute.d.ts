/* tslint:disable */
/* eslint-disable */

/**
 * Whether multiply-add rounds once on this machine: part of the numeric class.
 */
export function madd_is_fused(): boolean;

/**
 * Runs a program on the calling thread alone. `control` is the address of a control block, and
 * `program` of `record_count` records.
 */
export function run_alone(control: number, program: number, record_count: number): void;

/**
 * Hash of the record table; the host must have the same.
 */
export function table_hash(): number;

/**
 * Serves programs as thread `thread` of `threads` until told to stop.
 */
export function work(control: number, thread: number, threads: number): void;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly memory: WebAssembly.Memory;
    readonly madd_is_fused: () => number;
    readonly run_alone: (a: number, b: number, c: number) => void;
    readonly table_hash: () => number;
    readonly work: (a: number, b: number, c: number) => void;
    readonly __wbindgen_externrefs: WebAssembly.Table;
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
