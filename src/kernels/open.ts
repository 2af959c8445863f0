/** Opens a compute backend by its name. */
import type { Backend } from "./backend.ts";
import { openReferenceBackend } from "./reference/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "./wasm/backend.ts";
import { openWebGpuBackend } from "./webgpu/backend.ts";

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
      return await openWebGpu(options);
  }
}

/** With kernels of the processor beside it, which convert weights in a small memory of their own. */
async function openWebGpu({ memoryBytes: _, ...options }: BackendOptions): Promise<Backend> {
  const packer = await openWasmBackend(options);
  try {
    return await openWebGpuBackend({ packer });
  } catch (error) {
    await packer.close();
    throw error;
  }
}
