/**
 * Chooses the nodes of one layer call: a set cover of the experts that all rows of the step need,
 * with few nodes, because every frame costs a wait. Essential nodes first, then greedily the one
 * that covers most; ties go to the node that is least busy. Large calls are bound by computing and
 * spread over all owners instead.
 */
import { assert } from "@/assert.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import type { NodeId, Placement } from "./placement.ts";

/** A plan with nodes as numbers, made once per plan (and again when nodes load or lose experts). */
export class RouteTable {
  readonly epoch: number;
  readonly grid: ExpertGrid;
  readonly nodes: readonly NodeId[];
  readonly #owners: readonly (readonly number[])[];

  /**
   * `isHeld` (default: all) leaves out owners that have not loaded the expert yet. `local` is this
   * process's own node, which is in no plan: it owns what it holds.
   */
  constructor(args: {
    grid: ExpertGrid;
    placement: Placement;
    isHeld?: (node: NodeId, slot: number) => boolean;
    local?: { readonly node: NodeId; readonly held: ReadonlySet<number> } | undefined;
  }) {
    const { grid, placement, isHeld = () => true, local } = args;
    assert(placement.owners.length === grid.size, "the plan is for other experts");
    this.epoch = placement.epoch;
    this.grid = grid;
    const names = new Set(placement.owners.flat());
    if (local) names.add(local.node);
    this.nodes = [...names].sort();
    const numberOf = new Map(this.nodes.map((node, i) => [node, i]));
    this.#owners = placement.owners.map((owners, slot) => {
      const holders = owners.filter((node) => isHeld(node, slot));
      if (local?.held.has(slot)) holders.push(local.node);
      return holders.map((node) => numberOf.get(node)!);
    });
  }

  /** Node numbers that own a slot. */
  ownersOf(slot: number): readonly number[] {
    return this.#owners[slot]!;
  }
}

/** How many rows of a call need an expert. */
export interface ExpertDemand {
  readonly expert: number;
  readonly rows: number;
}

export interface ReplicaChoice {
  /** Experts per node number, ascending, in the order of demand; empty for nodes without work. */
  readonly expertsOf: readonly (readonly number[])[];
  /** Experts without a usable owner. */
  readonly missing: readonly number[];
}

export interface ChoiceRequest {
  readonly table: RouteTable;
  readonly layer: number;
  readonly demand: readonly ExpertDemand[];
  readonly isUsable: (node: number) => boolean;
  /** Seconds of work that already wait at a node, and rows that it computes in a second. */
  readonly busySeconds: (node: number) => number;
  readonly speed: (node: number) => number;
  /** The node in this process: it needs no frame. */
  readonly local?: NodeId | undefined;
  /** Rows (token, expert) from which all owners share the work. */
  readonly spreadRows: number;
}

export function chooseReplicas(request: ChoiceRequest): ReplicaChoice {
  const { table, demand, local } = request;
  const first = table.grid.firstSlot(request.layer);
  const usable = table.nodes.map((_, node) => request.isUsable(node));
  const candidates = demand.map(({ expert }) =>
    table.ownersOf(first + expert).filter((node) => usable[node])
  );
  const rows = demand.reduce((sum, item) => sum + item.rows, 0);
  const chosen = rows >= request.spreadRows
    ? new Set(candidates.flat())
    : cover(candidates, { request, local: local === undefined ? -1 : table.nodes.indexOf(local) });
  return share(candidates, { request, chosen });
}

/** A small set of nodes that has an owner of every expert with candidates. */
function cover(
  candidates: readonly (readonly number[])[],
  args: { request: ChoiceRequest; local: number },
): Set<number> {
  const { request: { table, busySeconds }, local } = args;
  const chosen = new Set<number>();
  const isCovered = candidates.map((owners) => owners.length === 0);
  const gain = table.nodes.map(() => 0);
  for (const owners of candidates) for (const node of owners) gain[node]! += 1;
  const choose = (node: number) => {
    chosen.add(node);
    candidates.forEach((owners, i) => {
      if (isCovered[i] || !owners.includes(node)) return;
      isCovered[i] = true;
      for (const owner of owners) gain[owner]! -= 1;
    });
  };
  if (local >= 0 && gain[local]! > 0) choose(local);
  candidates.forEach((owners, i) => {
    if (!isCovered[i] && owners.length === 1) choose(owners[0]!);
  });
  while (isCovered.includes(false)) {
    let best = -1;
    for (let node = 0; node < gain.length; node++) {
      if (gain[node] === 0 || chosen.has(node)) continue;
      const isBetter = best < 0 || gain[node]! > gain[best]! ||
        (gain[node] === gain[best] && busySeconds(node) < busySeconds(best));
      if (isBetter) best = node;
    }
    choose(best);
  }
  return withoutRedundant(candidates, { chosen, local });
}

/** Drops nodes whose experts all have another chosen owner (a greedy cover can contain some). */
function withoutRedundant(
  candidates: readonly (readonly number[])[],
  args: { chosen: Set<number>; local: number },
): Set<number> {
  const { chosen, local } = args;
  for (const node of [...chosen]) {
    if (node === local) continue;
    const isNeeded = candidates.some((owners) =>
      owners.includes(node) && !owners.some((other) => other !== node && chosen.has(other))
    );
    if (!isNeeded) chosen.delete(node);
  }
  return chosen;
}

/** Gives each expert to one chosen owner: heaviest first, to the node that would be done first. */
function share(
  candidates: readonly (readonly number[])[],
  args: { request: ChoiceRequest; chosen: ReadonlySet<number> },
): ReplicaChoice {
  const { request: { table, demand, busySeconds, speed }, chosen } = args;
  const doneSeconds = table.nodes.map((_, node) => chosen.has(node) ? busySeconds(node) : 0);
  const expertsOf = table.nodes.map(() => [] as number[]);
  const missing: number[] = [];
  const give = (index: number, node: number) => {
    expertsOf[node]!.push(demand[index]!.expert);
    doneSeconds[node]! += demand[index]!.rows / speed(node);
  };
  const open: number[] = [];
  candidates.forEach((owners, i) => {
    const options = owners.filter((node) => chosen.has(node));
    if (options.length === 0) missing.push(demand[i]!.expert);
    else if (options.length === 1) give(i, options[0]!);
    else open.push(i);
  });
  open.sort((a, b) => demand[b]!.rows - demand[a]!.rows || a - b);
  for (const i of open) {
    const options = candidates[i]!.filter((node) => chosen.has(node));
    const after = (node: number) => doneSeconds[node]! + demand[i]!.rows / speed(node);
    give(i, options.reduce((best, node) => after(node) < after(best) ? node : best));
  }
  for (const experts of expertsOf) experts.sort((a, b) => a - b);
  return { expertsOf, missing };
}
