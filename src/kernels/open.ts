/** Opens a compute backend by its name. */
import type { Backend } from "./backend.ts";
import { openReferenceBackend } from "./reference/backend.ts";
import { openWasmBackend, type WasmBackendOptions } from "./wasm/backend.ts";
import { openWebGpuBackend } from "./webgpu/backend.ts";
import type { Tuning } from "./webgpu/tuning.ts";

export interface BackendOptions extends WasmBackendOptions {
  readonly name: "wasm" | "reference" | "webgpu";
  /** Bytes that may be taken on a GPU; missing: what it grants. */
  readonly gpuMemoryBytes?: number | undefined;
  /** Choices that suit the GPU. */
  readonly tuning?: Tuning;
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
async function openWebGpu(options: BackendOptions): Promise<Backend> {
  const { memoryBytes: _, gpuMemoryBytes: memoryBytes, tuning, ...kernels } = options;
  const packer = await openWasmBackend(kernels);
  try {
    return await openWebGpuBackend({
      packer,
      ...(memoryBytes && { memoryBytes }),
      ...(tuning && { tuning }),
    });
  } catch (error) {
    await packer.close();
    throw error;
  }
}
