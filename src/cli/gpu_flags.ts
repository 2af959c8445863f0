/** The flags that say what of a model a GPU gets, and the placement that follows from them. */
import { type GpuPlacement, placeOnGpu } from "@/engine/gpu_placement.ts";
import type { MemoryPlan } from "@/engine/memory_plan.ts";
import { type BackendOptions, openBackend } from "@/kernels/open.ts";
import { usableDeviceBytes } from "@/kernels/webgpu/memory_trial.ts";
import { limits } from "@/limits.ts";
import type { HostPlacement } from "@/model/host_layers.ts";
import type { Flags } from "./flags.ts";
import { parseSize } from "./sizes.ts";

export interface GpuFlags {
  /** Bytes that a model may take on the GPU; missing: what the GPU grants. */
  readonly memoryBytes?: number | undefined;
  /** Sparse layers whose experts are on the GPU; missing: as many as fit. */
  readonly expertLayers?: number | undefined;
}

export function gpuFlags(flags: Flags): GpuFlags {
  const [memory, experts] = [flags.string("gpu-memory"), flags.string("gpu-experts")];
  const layers: Readonly<Record<string, number>> = { all: Infinity, none: 0 };
  return {
    memoryBytes: memory === undefined ? undefined : parseSize(memory),
    expertLayers: experts === undefined ? undefined : layers[experts] ?? Number(experts),
  };
}

/** Throws OperatingError("unavailable") without a GPU, and when the model does not fit. */
export async function gpuPlacement(plan: MemoryPlan, gpu: GpuFlags): Promise<GpuPlacement> {
  const isSmall = plan.totalBytes <= limits.gpuUntriedBytesMax;
  const memoryBytes = gpu.memoryBytes ??
    (isSmall ? plan.totalBytes : await usableDeviceBytes(plan.totalBytes));
  return placeOnGpu(plan, { memoryBytes, expertLayers: gpu.expertLayers });
}

/** Opens the processor's backend for what the placement leaves it; undefined for nothing. */
export async function openHost(
  { parts, hostBytes }: GpuPlacement,
  options: BackendOptions,
): Promise<HostPlacement | undefined> {
  if (hostBytes === 0) return undefined;
  return {
    backend: await openBackend({ ...options, name: "wasm", memoryBytes: hostBytes }),
    parts,
  };
}
