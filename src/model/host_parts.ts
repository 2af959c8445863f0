/**
 * Which parts of a model the processor computes for a GPU that cannot hold all of it, and how many
 * bytes each part has. Chooses nothing: `engine/gpu_placement.ts` does.
 */
import type { TensorName } from "@/weights/names.ts";

export interface HostParts {
  /** Decoder layers whose experts are on the processor. */
  readonly expertLayers: ReadonlySet<number>;
  /** Decoder layers whose dense feed-forward is there. */
  readonly denseLayers: ReadonlySet<number>;
  /** Whether vision tower and adapter are there. */
  readonly vision: boolean;
}

/** Bytes of the parts that may be placed; what is in none of them belongs to the GPU. */
export interface PartBytes {
  /** By decoder layer. */
  readonly experts: Readonly<Record<number, number>>;
  readonly dense: Readonly<Record<number, number>>;
  readonly vision: number;
}

type Part = "vision" | { readonly kind: "experts" | "dense"; readonly layer: number };

/** The part that a tensor belongs to; undefined for what cannot be placed. */
function partOf(name: TensorName): Part | undefined {
  if (name.startsWith("vision.") || name.startsWith("adapter.")) return "vision";
  const match = /^decoder\.(\d+)\.(experts|gate|up|down)\./.exec(name);
  if (!match) return undefined;
  return { kind: match[2] === "experts" ? "experts" : "dense", layer: Number(match[1]) };
}

/** Whether the processor holds a tensor. */
export function isOnHost(parts: HostParts, name: TensorName): boolean {
  const part = partOf(name);
  if (part === undefined) return false;
  if (part === "vision") return parts.vision;
  return (part.kind === "experts" ? parts.expertLayers : parts.denseLayers).has(part.layer);
}

export function partBytes(
  weights: Iterable<{ readonly name: TensorName; readonly sizeBytes: number }>,
): PartBytes {
  const sums = {
    experts: {} as Record<number, number>,
    dense: {} as Record<number, number>,
    vision: 0,
  };
  for (const { name, sizeBytes } of weights) {
    const part = partOf(name);
    if (part === "vision") sums.vision += sizeBytes;
    else if (part) {
      const sum = sums[part.kind];
      sum[part.layer] = (sum[part.layer] ?? 0) + sizeBytes;
    }
  }
  return sums;
}

/** E.g. "experts 12-47, vision"; empty when everything is on the GPU. Part of the numeric class. */
export function partsText({ expertLayers, denseLayers, vision }: HostParts): string {
  return [
    ...expertLayers.size > 0 ? [`experts ${rangesText(expertLayers)}`] : [],
    ...denseLayers.size > 0 ? [`feed-forward ${rangesText(denseLayers)}`] : [],
    ...vision ? ["vision"] : [],
  ].join(", ");
}

function rangesText(layers: ReadonlySet<number>): string {
  const ranges: [number, number][] = [];
  for (const layer of [...layers].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last?.[1] === layer - 1) last[1] = layer;
    else ranges.push([layer, layer]);
  }
  return ranges.map(([first, last]) => first === last ? first : `${first}-${last}`).join("+");
}
