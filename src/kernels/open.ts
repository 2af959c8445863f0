/** Opens a compute backend by its name. */
import { OperatingError } from "@/errors.ts";
import type { Backend } from "./backend.ts";
import { openReferenceBackend } from "./reference/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "./wasm/backend.ts";

export interface BackendOptions extends WasmBackendOptions {
  readonly name: "wasm" | "reference" | "webgpu";
}

/** Throws OperatingError("unavailable") when this build or machine cannot run the backend. */
export async function openBackend(options: BackendOptions): Promise<Backend> {
  switch (options.name) {
    case "wasm":
      return await openWasmBackend(options);
    case "reference":
      return openReferenceBackend();
    case "webgpu":
      throw new OperatingError(
        "unavailable",
        "Cannot open the webgpu backend: this build has none",
      );
  }
}
