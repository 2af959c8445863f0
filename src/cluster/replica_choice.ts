/**
 * Chooses the nodes of one layer call: a set cover of the experts that all rows of the step need,
 * with few nodes, because every frame costs a wait. Essential nodes first, then greedily the one
 * that covers most; ties go to the node that is least busy. Large calls are bound by computing and
 * spread over all owners instead. Either way a node that has worked more than its part counts for
 * less, so that over many calls all work alike.
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
  /** Nodes that own an expert of a layer, once they are asked for. */
  readonly #ownersIn = new Map<number, readonly number[]>();

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

  /** Node numbers that own an expert of a layer. */
  ownersIn(layer: number): readonly number[] {
    let nodes = this.#ownersIn.get(layer);
    if (!nodes) {
      const first = this.grid.firstSlot(layer);
      const slots = this.#owners.slice(first, first + this.grid.experts);
      this.#ownersIn.set(layer, nodes = [...new Set(slots.flat())].sort((a, b) => a - b));
    }
    return nodes;
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
  /** Seconds of work for this layer that a node was given lately. */
  readonly workedSeconds: (node: number) => number;
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
  const localNode = local === undefined ? -1 : table.nodes.indexOf(local);
  const lead = leadsOf(request, { usable, local: localNode });
  const chosen = rows >= request.spreadRows
    ? new Set(candidates.flat())
    : cover(candidates, { request, lead, local: localNode });
  return share(candidates, { request, lead, chosen });
}

/** A node this much ahead of the others counts for 1/e of what it could do, or stands for one row. */
const LEAD_UNIT = 0.04;
/** What came before makes no more difference than this many units, in either direction. */
const LEAD_MAX = 4;
/** A node this many units behind takes part though others could do without it. */
const HELPER_LAG = 0.75;
/** Rows that every node is thought to have done: the first calls of a plan say little. */
const PRIOR_ROWS = 32;

/** How far each usable owner of the layer is ahead of their mean in work done, in units. */
function leadsOf(
  { table, layer, workedSeconds, speed }: ChoiceRequest,
  args: { usable: readonly boolean[]; local: number },
): readonly number[] {
  const peers = table.ownersIn(layer).filter((node) => args.usable[node] && node !== args.local);
  const lead = table.nodes.map(() => 0);
  if (peers.length < 2) return lead;
  const mean = peers.reduce((sum, node) => sum + workedSeconds(node), 0) / peers.length;
  const rowSeconds = peers.length / peers.reduce((sum, node) => sum + speed(node), 0);
  for (const node of peers) {
    const ahead = (workedSeconds(node) - mean) / (mean + PRIOR_ROWS * rowSeconds) / LEAD_UNIT;
    lead[node] = Math.max(-LEAD_MAX, Math.min(LEAD_MAX, ahead));
  }
  return lead;
}

interface Choosing {
  readonly request: ChoiceRequest;
  readonly lead: readonly number[];
}

/** A small set of nodes that has an owner of every expert with candidates. */
function cover(
  candidates: readonly (readonly number[])[],
  args: Choosing & { local: number },
): Set<number> {
  const { request: { table, busySeconds }, lead, local } = args;
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
  const weight = lead.map((units) => Math.exp(-units));
  while (isCovered.includes(false)) {
    let [best, bestWorth] = [-1, 0];
    for (let node = 0; node < gain.length; node++) {
      if (gain[node] === 0 || chosen.has(node)) continue;
      const worth = gain[node]! * weight[node]!;
      const isBetter = best < 0 || worth > bestWorth ||
        (worth === bestWorth && busySeconds(node) < busySeconds(best));
      if (isBetter) [best, bestWorth] = [node, worth];
    }
    choose(best);
  }
  for (const node of candidates.flat()) if (lead[node]! < -HELPER_LAG) chosen.add(node);
  return withoutRedundant(candidates, { chosen, lead, local });
}

/**
 * Drops nodes whose experts all have another chosen owner (a greedy cover can contain some), those
 * that are furthest ahead first; who is behind may help.
 */
function withoutRedundant(
  candidates: readonly (readonly number[])[],
  args: { chosen: Set<number>; lead: readonly number[]; local: number },
): Set<number> {
  const { chosen, lead, local } = args;
  for (const node of [...chosen].sort((a, b) => lead[b]! - lead[a]!)) {
    if (node === local || lead[node]! < -HELPER_LAG) continue;
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
  args: Choosing & { chosen: ReadonlySet<number> },
): ReplicaChoice {
  const { request: { table, demand, busySeconds, speed }, lead, chosen } = args;
  const doneSeconds = table.nodes.map((_, node) =>
    chosen.has(node) ? busySeconds(node) + lead[node]! / speed(node) : 0
  );
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
