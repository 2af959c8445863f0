/**
 * What fits where, before anything is bought or started: packs a model's experts onto nodes that
 * exist only on paper, with the planner that will do it for real.
 */
import { ExpertGrid } from "./expert_grid.ts";
import { layerQuotas, type NodeRoom } from "./packing.ts";
import { bytesOfSlots, type ClusterNode, type NodeId } from "./placement.ts";
import { defaultPlanPolicy, planPlacement } from "./planner.ts";

export interface FitRequest {
  readonly layers: readonly number[];
  readonly experts: number;
  /** Bytes of an expert of each layer. */
  readonly layerBytes: readonly number[];
  /** Speed in any unit; only ratios count. */
  readonly nodes: readonly { id: NodeId; memoryBytes: number; speed: number }[];
  readonly replicas: number;
  readonly spareCopies: number;
}

export interface NodeFit {
  readonly id: NodeId;
  readonly experts: number;
  readonly bytes: number;
  readonly freeBytes: number;
  /** Part of all expert work, if every expert were used alike. */
  readonly loadShare: number;
}

export interface Fit {
  readonly nodes: readonly NodeFit[];
  /** Every expert has a place, and as many copies as asked for. */
  readonly isCovered: boolean;
  readonly isReplicated: boolean;
  /** Memory that is missing for the copies asked for; 0 when there is enough. */
  readonly missingBytes: number;
  /** Most copies of every expert that would fit. */
  readonly replicasMax: number;
  /** Nodes that can be lost at once, whichever they are, before an expert is. */
  readonly lossesSurvived: number;
  /** Largest over mean of the time that nodes work, if every expert were used alike. */
  readonly balance: number;
  /** Owners of every slot; empty for experts without a place. */
  readonly owners: readonly (readonly NodeId[])[];
}

export function planFit(request: FitRequest): Fit {
  const grid = new ExpertGrid(request);
  const { layerBytes, replicas } = request;
  const expertBytes = Math.max(...layerBytes);
  const nodes = request.nodes.map((node): ClusterNode => ({
    ...node,
    ...{ expertBytes, layerBytes },
    numericClass: "",
    weightHash: "",
    draining: false,
  }));
  const planned = planPlacement({
    grid,
    nodes,
    load: new Float64Array(grid.size).fill(1),
    policy: {
      ...defaultPlanPolicy,
      identity: { numericClass: "", weightHash: "" },
      replicas,
      spareCopies: request.spareCopies,
    },
    current: undefined,
    held: new Map(),
    improve: false,
  });
  const sizes = nodes.map(({ memoryBytes }) => usableBytes({ memoryBytes, layerBytes }, grid));
  const oneCopyBytes = grid.experts * layerBytes.reduce((sum, bytes) => sum + bytes, 0);
  const room = (copies: number) =>
    sizes.reduce((sum, bytes) => sum + bytes, 0) - copies * oneCopyBytes;
  let replicasMax = 0;
  const usable = sizes.filter((bytes) => bytes > 0).length;
  while (replicasMax < usable && room(replicasMax + 1) >= 0) replicasMax += 1;
  const fits = nodes.map((node) => fitOf(node, { owners: planned.owners, grid }));
  const seconds = fits.map(({ loadShare }, i) => loadShare / nodes[i]!.speed);
  const speed = nodes.reduce((sum, node) => sum + node.speed, 0);
  const copies = planned.owners.map((owners) => owners.length);
  return {
    nodes: fits,
    isCovered: planned.uncovered.length === 0,
    isReplicated: planned.underReplicated === 0,
    missingBytes: Math.max(0, -room(replicas)),
    replicasMax,
    lossesSurvived: Math.max(0, Math.min(...copies) - 1),
    balance: Math.max(...seconds) * speed,
    owners: planned.owners,
  };
}

/** What of a node's memory whole experts can use, with as many of each layer as possible. */
function usableBytes(room: NodeRoom, grid: ExpertGrid): number {
  return layerQuotas([room], grid)
    .reduce((sum, [quota], row) => sum + quota! * room.layerBytes[row]!, 0);
}

function fitOf(
  node: ClusterNode,
  { owners, grid }: { owners: readonly (readonly NodeId[])[]; grid: ExpertGrid },
): NodeFit {
  const slots = owners.flatMap((list, slot) => list.includes(node.id) ? [slot] : []);
  const load = slots.reduce((sum, slot) => sum + 1 / owners[slot]!.length, 0);
  const bytes = bytesOfSlots(node, grid, slots);
  return {
    id: node.id,
    experts: slots.length,
    bytes,
    freeBytes: node.memoryBytes - bytes,
    loadShare: load / owners.length,
  };
}
