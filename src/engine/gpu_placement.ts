/**
 * What of a model a GPU holds and what stays with the processor: experts leave the GPU first, from
 * the last layer on, then the vision tower, then dense feed-forward layers. Measures nothing.
 */
import { OperatingError } from "@/errors.ts";
import { type HostParts, partsText } from "@/model/host_parts.ts";
import type { MemoryPlan } from "./memory_plan.ts";

export interface GpuWish {
  /** Bytes that may be used on the GPU. */
  readonly memoryBytes: number;
  /** Sparse layers whose experts are on the GPU, the first ones; missing: as many as fit. */
  readonly expertLayers?: number | undefined;
}

export interface GpuPlacement {
  readonly parts: HostParts;
  readonly deviceBytes: number;
  /** Weights and scratch memory of the processor; 0 when everything is on the GPU. */
  readonly hostBytes: number;
}

/** Throws OperatingError("unavailable") when what cannot be placed elsewhere does not fit. */
export function placeOnGpu(plan: MemoryPlan, wish: GpuWish): GpuPlacement {
  const { experts, dense, vision } = plan.parts;
  const expertLayers = new Set<number>();
  const denseLayers = new Set<number>();
  const placed = { weights: 0, vision: false };
  const deviceBytes = () => plan.totalBytes - placed.weights;
  const layersOf = (bytes: Readonly<Record<number, number>>) => Object.keys(bytes).map(Number);
  const move = (layers: Set<number>, layer: number, bytes: number) => {
    layers.add(layer);
    placed.weights += bytes;
  };
  const isTooLarge = () => deviceBytes() > wish.memoryBytes;
  const sparse = layersOf(experts).sort((a, b) => a - b);
  const wished = wish.expertLayers;
  for (const [index, layer] of [...sparse.entries()].reverse()) {
    const leaves = wished === undefined ? isTooLarge() : index >= wished;
    if (leaves) move(expertLayers, layer, experts[layer]!);
  }
  if (isTooLarge() && vision > 0) {
    placed.vision = true;
    placed.weights += vision;
  }
  for (const layer of layersOf(dense).sort((a, b) => b - a)) {
    if (isTooLarge()) move(denseLayers, layer, dense[layer]!);
  }
  if (isTooLarge()) {
    throw new OperatingError(
      "unavailable",
      `Cannot use the GPU: what must be on it takes ${deviceBytes()} bytes of ` +
        `${wish.memoryBytes}; --context or --kv-mib makes the KV cache smaller`,
    );
  }
  const parts = { expertLayers, denseLayers, vision: placed.vision };
  const hostBytes = placed.weights === 0 ? 0 : placed.weights + plan.workBytes;
  return { parts, deviceBytes: deviceBytes(), hostBytes };
}

/** E.g. "7.1 GiB on the GPU, 12.0 GiB on the processor (experts 20-47)". */
export function placementText({ parts, deviceBytes, hostBytes }: GpuPlacement): string {
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (hostBytes === 0) return `${gib(deviceBytes)} on the GPU, nothing on the processor`;
  return `${gib(deviceBytes)} on the GPU, ${gib(hostBytes)} on the processor (${partsText(parts)})`;
}
