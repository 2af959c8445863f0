/** Which node has which experts, and how much they are used: the cluster page's heat map as data. */
import type { ExpertGrid } from "./expert_grid.ts";
import type { NodeId, Placement } from "./placement.ts";

export interface LayerMap {
  readonly layer: number;
  /** Owners of each expert, as numbers of `ExpertMap.nodes`. */
  readonly owners: readonly (readonly number[])[];
  /** Tokens per second of each expert. */
  readonly load: readonly number[];
}

export interface ExpertMap {
  readonly epoch: number;
  readonly nodes: readonly NodeId[];
  readonly layers: readonly LayerMap[];
}

/** Owners and load [slots] of some layers; by default all. Loads are rounded to three decimals. */
export function expertMap(args: {
  grid: ExpertGrid;
  placement: Placement | undefined;
  load: Float64Array;
  layers?: readonly number[] | undefined;
}): ExpertMap {
  const { grid, placement, load, layers = grid.layers } = args;
  const nodes = [...new Set(placement?.owners.flat())].sort();
  const numberOf = new Map(nodes.map((node, i) => [node, i]));
  return {
    epoch: placement?.epoch ?? 0,
    nodes,
    layers: layers.map((layer) => {
      const first = grid.firstSlot(layer);
      const slots = Array.from({ length: grid.experts }, (_, expert) => first + expert);
      return {
        layer,
        owners: slots.map((slot) =>
          (placement?.owners[slot] ?? []).map((node) => numberOf.get(node)!)
        ),
        load: slots.map((slot) => Math.round(load[slot]! * 1000) / 1000),
      };
    }),
  };
}
