/**
 * Packs the experts of one layer onto empty nodes, heaviest first. A layer is a barrier (the
 * slowest node decides), so every layer is balanced by itself. Never fails to place the promised
 * copies when any way to place them exists.
 */
import { assert } from "@/assert.ts";

export interface LayerPacking {
  /** Load of each expert. */
  readonly load: readonly number[];
  /** Speed of each node, and the experts of this layer that it has room for. */
  readonly speeds: readonly number[];
  readonly quotas: readonly number[];
  /** Copies of each expert, on different nodes; needs sum(min(quota, experts)) >= this each. */
  readonly replicas: number;
  /** Further copies in all, given to the experts with the highest load per copy. */
  readonly spareCopies: number;
}

/** Whether `experts` with `replicas` copies each on different nodes fit the quotas. */
export function fitsLayer(quotas: readonly number[], experts: number, replicas: number): boolean {
  const room = quotas.reduce((sum, quota) => sum + Math.min(quota, experts), 0);
  const usable = quotas.filter((quota) => quota > 0).length;
  return usable >= replicas && room >= experts * replicas;
}

/** How many copies each expert gets: one more, again and again, where load per copy is highest. */
export function copyCounts(
  load: readonly number[],
  options: { replicas: number; spareCopies: number; nodes: number },
): number[] {
  const counts = load.map(() => options.replicas);
  for (let spare = 0; spare < options.spareCopies; spare++) {
    let best = -1;
    load.forEach((value, expert) => {
      if (counts[expert]! >= options.nodes) return;
      if (best < 0 || value / counts[expert]! > load[best]! / counts[best]!) best = expert;
    });
    if (best < 0) break;
    counts[best]! += 1;
  }
  return counts;
}

/** Owners (node numbers) of each expert. */
export function packLayer(packing: LayerPacking): number[][] {
  const { load, replicas, speeds } = packing;
  const experts = load.length;
  assert(fitsLayer(packing.quotas, experts, replicas), "the layer does not fit");
  const quotas = [...packing.quotas];
  const room = quotas.reduce((sum, quota) => sum + Math.min(quota, experts), 0);
  const spareCopies = Math.min(packing.spareCopies, room - experts * replicas);
  const copies = copyCounts(load, { replicas, spareCopies, nodes: speeds.length });
  const order = load.map((_, expert) => expert)
    .sort((a, b) => load[b]! / copies[b]! - load[a]! / copies[a]! || a - b);
  const nodeLoad = speeds.map(() => 0);
  const owners: number[][] = load.map(() => []);
  order.forEach((expert, done) => {
    const share = load[expert]! / copies[expert]!;
    const chosen = chooseNodes({
      quotas,
      left: experts - done,
      replicas,
      copies: copies[expert]!,
      cost: (node) => (nodeLoad[node]! + share) / speeds[node]!,
    });
    for (const node of chosen) {
      quotas[node]! -= 1;
      nodeLoad[node]! += share;
    }
    owners[expert] = chosen.sort((a, b) => a - b);
  });
  return owners;
}

/**
 * Cheapest nodes for one expert such that the `left - 1` others still fit. Nodes with room for all
 * `left` experts lose nothing by taking this one; every other pick uses up slack. Proof: with
 * f(m) = sum(min(quota, m)), `left` experts fit if and only if f(left) >= left * replicas.
 */
function chooseNodes(args: {
  quotas: readonly number[];
  left: number;
  replicas: number;
  copies: number;
  cost: (node: number) => number;
}): number[] {
  const { quotas, left, replicas, copies } = args;
  const roomy = quotas.filter((quota) => quota >= left).length;
  const room = quotas.reduce((sum, quota) => sum + Math.min(quota, left), 0);
  let tightPicks = replicas + (room - left * replicas) - roomy;
  const costs = quotas.map((_, node) => args.cost(node));
  const byCost = quotas.map((_, node) => node).filter((node) => quotas[node]! > 0)
    .sort((a, b) => costs[a]! - costs[b]! || quotas[b]! - quotas[a]! || a - b);
  const chosen: number[] = [];
  for (const node of byCost) {
    if (chosen.length === copies) break;
    const isTight = quotas[node]! < left;
    if (isTight && tightPicks <= 0) continue;
    if (isTight) tightPicks -= 1;
    chosen.push(node);
  }
  assert(chosen.length >= replicas, "an expert lost its place");
  return chosen;
}

/** Memory of a node, and what an expert of each layer takes of it. */
export interface NodeRoom {
  readonly memoryBytes: number;
  readonly layerBytes: readonly number[];
}

/**
 * Shares each node's memory among layers, as many experts of each, as evenly as possible in sum over
 * nodes: node after node hands its remainder to the layers that come next and fit.
 */
export function layerQuotas(
  rooms: readonly NodeRoom[],
  { layers, experts }: { layers: readonly unknown[]; experts: number },
): number[][] {
  const quotas = layers.map(() => rooms.map(() => 0));
  let next = 0;
  rooms.forEach(({ memoryBytes, layerBytes }, node) => {
    const oneOfEach = layerBytes.reduce((sum, bytes) => sum + bytes, 0);
    const each = Math.min(experts, Math.floor(memoryBytes / oneOfEach));
    for (const quota of quotas) quota[node] = each;
    if (each === experts) return;
    let left = memoryBytes - each * oneOfEach;
    const first = next;
    for (let step = 0; step < layers.length; step++) {
      const row = (first + step) % layers.length;
      if (layerBytes[row]! > left) continue;
      left -= layerBytes[row]!;
      quotas[row]![node]! += 1;
      next = (row + 1) % layers.length;
    }
  });
  return quotas;
}
