/**
 * One instance of the kernels. The wasm-bindgen glue beside a module holds a single instance per
 * program, but every backend needs its own, so this does what the glue does: the two imports and
 * the start call (which gives each thread its stack).
 */
import { OperatingError } from "@/errors.ts";
import { tableHash, trainingTableHash } from "./records.ts";

/** Stack of one thread. */
const STACK_BYTES = 1024 * 1024;
/** Import namespace that wasm-bindgen chooses. */
const NAMESPACE = "./compute_bg.js";

export interface Kernels {
  table_hash(): number;
  madd_is_fused(): number;
  run_alone(control: number, program: number, recordCount: number): void;
  work(control: number, thread: number, threads: number): void;
  readonly memory: WebAssembly.Memory;
}

/** Instantiates on `memory`, or on a memory of the module's own. */
export function instantiateKernels(
  module: WebAssembly.Module,
  memory?: WebAssembly.Memory,
): Kernels {
  const imports = {
    // Fills a table of JavaScript values, of which these kernels have none.
    __wbindgen_init_externref_table: () => {},
    ...(memory ? { memory } : {}),
  };
  const { exports } = new WebAssembly.Instance(module, { [NAMESPACE]: imports });
  const kernels = exports as unknown as Kernels & { __wbindgen_start(stackBytes: number): void };
  kernels.__wbindgen_start(STACK_BYTES);
  return kernels;
}

/** Refuses kernels that were built from another record table than this program's. */
export function checkTable(hash: number, training: boolean): void {
  if (hash >>> 0 === (training ? trainingTableHash() : tableHash())) return;
  throw new OperatingError(
    "unavailable",
    "Cannot use the compute kernels: they were built for another version of this program",
  );
}
