/** What a plan gives each node to do, if calls go to whoever has worked least. Pure figures. */
import type { ExpertGrid } from "./expert_grid.ts";
import { splitLoad } from "./load_split.ts";
import type { NodeId, Placement } from "./placement.ts";

export interface PlannedLoad {
  /** Part of each second that each node works, for each layer of the grid in its order. */
  readonly busy: readonly ReadonlyMap<NodeId, number>[];
  /** Rows per second by node, of all layers. */
  readonly rows: ReadonlyMap<NodeId, number>;
}

export function plannedLoad(args: {
  grid: ExpertGrid;
  placement: Placement | undefined;
  /** Rows per second by slot. */
  load: Float64Array;
  /** Rows per second that each node that shares the work can do; other owners count for nothing. */
  speeds: ReadonlyMap<NodeId, number>;
}): PlannedLoad {
  const { grid, placement, load } = args;
  const ids = [...args.speeds.keys()];
  const speeds = [...args.speeds.values()];
  const numberOf = new Map(ids.map((id, node) => [id, node]));
  const rows = new Map(ids.map((id) => [id, 0]));
  const busy = grid.layers.map((layer) => {
    const first = grid.firstSlot(layer);
    const owners = Array.from(
      { length: grid.experts },
      (_, expert) =>
        (placement?.owners[first + expert] ?? []).flatMap((id) => numberOf.get(id) ?? []),
    );
    const split = splitLoad({ load: load.subarray(first, first + grid.experts), owners, speeds });
    split.busy.forEach((seconds, node) => {
      rows.set(ids[node]!, rows.get(ids[node]!)! + seconds * speeds[node]!);
    });
    return new Map(ids.map((id, node) => [id, split.busy[node]!]));
  });
  return { busy, rows };
}
