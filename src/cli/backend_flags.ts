/** The flags that choose the compute backend. */
import type { BackendOptions } from "@/kernels/open.ts";
import type { WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import type { Flags } from "./flags.ts";

/** What `--backend`, `--variant` and `--threads` say. */
export function backendFlags(flags: Flags): BackendOptions {
  const threads = flags.number("threads");
  const variant = flags.string("variant") as WasmBackendOptions["variant"] | undefined;
  return {
    name: (flags.string("backend") ?? "wasm") as BackendOptions["name"],
    ...(threads !== undefined && { threads }),
    ...(variant !== undefined && { variant }),
  };
}
