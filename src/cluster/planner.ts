/**
 * Plans who should own which experts, from load, speed and memory. Pure and deterministic. One plan
 * is one round: old and new owners fit into memory together, and what needs room first is left to
 * the next round. Coverage comes before replicas, replicas before balance.
 */
import { assert } from "@/assert.ts";
import { balance } from "./balancing.ts";
import { type Copy, Draft } from "./draft.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { fitsLayer, layerQuotas, packLayer } from "./packing.ts";
import {
  type ClusterNode,
  type ExpertIdentity,
  identityProblem,
  type NodeId,
  type Placement,
} from "./placement.ts";

export interface PlanPolicy {
  readonly identity: ExpertIdentity;
  /** Copies of every expert, on different nodes. */
  readonly replicas: number;
  /** Further copies of hot experts, per layer. */
  readonly spareCopies: number;
  /** Copies of one plan that restore replicas or balance; a first plan and lost experts may more. */
  readonly copiesMax: number;
  /** How fast a node loads experts, and for how long the load is expected to stay. */
  readonly loadBytesPerSecond: number;
  readonly horizonSeconds: number;
  /** Balance (largest over mean of a layer) that is good enough. */
  readonly balanceMax: number;
}

export const defaultPlanPolicy: Omit<PlanPolicy, "identity"> = {
  replicas: 1,
  spareCopies: 0,
  copiesMax: 64,
  loadBytesPerSecond: 100e6,
  horizonSeconds: 600,
  balanceMax: 1.05,
};

/**
 * Further copies per layer that even out skewed traffic and let calls reach fewer nodes: an eighth of
 * the experts, and some even in small layers, whose few experts do not divide evenly.
 */
export function defaultSpareCopies(experts: number): number {
  return Math.max(4, Math.ceil(experts / 8));
}

export interface PlanRequest {
  readonly grid: ExpertGrid;
  readonly nodes: readonly ClusterNode[];
  /** Tokens per second by slot. */
  readonly load: Float64Array;
  readonly policy: PlanPolicy;
  readonly current: Placement | undefined;
  /** What nodes have loaded: such copies cost nothing. */
  readonly held: ReadonlyMap<NodeId, ReadonlySet<number>>;
  /** Nodes that keep what they own but get no more (they failed to load). */
  readonly avoid?: ReadonlySet<NodeId>;
  /** false: repair only. "always": also when the gain does not pay for the transfer. */
  readonly improve: boolean | "always";
}

export interface PlannedCopy {
  readonly node: NodeId;
  readonly slot: number;
}

export interface PlannedPlacement {
  readonly owners: readonly (readonly NodeId[])[];
  readonly copies: readonly PlannedCopy[];
  readonly drops: readonly PlannedCopy[];
  /** Slots that no node can take now. */
  readonly uncovered: readonly number[];
  /** Slots with fewer copies than promised. */
  readonly underReplicated: number;
  /** Nodes that cannot serve these experts, with the reason. */
  readonly refused: ReadonlyMap<NodeId, string>;
}

export function planPlacement(request: PlanRequest): PlannedPlacement {
  const { grid, policy, current } = request;
  assert(policy.replicas >= 1, `${policy.replicas} replicas`);
  const refused = new Map<NodeId, string>();
  for (const node of request.nodes) {
    const problem = identityProblem(node, policy.identity);
    if (problem) refused.set(node.id, problem);
  }
  const nodes = request.nodes.filter(({ id }) => !refused.has(id));
  const eligible = new Set(
    nodes.filter(({ id, draining }) => !draining && !request.avoid?.has(id)).map(({ id }) => id),
  );
  const load = withPrior(request.load);
  const draft = new Draft({ grid, nodes, eligible, load, current, held: request.held });
  const leavers = releaseDraining(draft);
  if (draft.owners.every((owners) => owners.length === 0)) packAll(draft, policy);
  const isRepaired = repair(draft, policy);
  keepLastOwners(draft, leavers);
  if (isRepaired && request.improve !== false) {
    const copiesLeft = policy.copiesMax - repairCopies(draft, current);
    balance(draft, { policy, copiesLeft, mustPay: request.improve !== "always" });
  }
  return result(draft, { request, refused });
}

/** A little even load, so that unused experts are shared out evenly too. */
function withPrior(load: Float64Array): Float64Array {
  const mean = load.reduce((sum, value) => sum + value, 0) / load.length;
  const prior = mean === 0 ? 1e-6 : mean * 1e-3;
  return load.map((value) => value + prior);
}

/** Takes the experts of leaving nodes away; returns them for those that nobody else can take. */
function releaseDraining(draft: Draft): Copy[] {
  const leavers: Copy[] = [];
  draft.owners.forEach((owners, slot) => {
    for (const node of owners) {
      if (draft.nodes[node]!.draining) leavers.push({ node, slot });
    }
  });
  for (const copy of leavers) draft.take(copy);
  return leavers;
}

/** An expert whose only owner leaves stays there until somebody has room. */
function keepLastOwners(draft: Draft, leavers: readonly Copy[]): void {
  for (const { node, slot } of leavers) {
    if (draft.owners[slot]!.length === 0) draft.owners[slot] = [node];
  }
}

/** A first plan: every layer packed onto empty nodes. */
function packAll(draft: Draft, policy: PlanPolicy): void {
  const { grid } = draft;
  const members = draft.nodes.map((_, node) => node).filter((node) => draft.isEligible(node));
  if (members.some((node) => draft.nodes[node]!.offers !== undefined)) return;
  // Nodes that hold something already are filled by `repair`, which prefers what is loaded.
  if (members.some((node) => draft.owners.some((_, slot) => draft.holds({ node, slot })))) return;
  const rooms = members.map((node) => {
    const { memoryBytes } = draft.nodes[node]!;
    return { memoryBytes, layerBytes: draft.layerBytes(node) };
  });
  layerQuotas(rooms, grid).forEach((quotas, row) => {
    const first = row * grid.experts;
    let replicas = Math.min(policy.replicas, members.length);
    while (replicas > 0 && !fitsLayer(quotas, grid.experts, replicas)) replicas -= 1;
    if (replicas === 0) return;
    const owners = packLayer({
      load: [...draft.load.subarray(first, first + grid.experts)],
      speeds: members.map((node) => draft.nodes[node]!.speed),
      quotas,
      replicas,
      spareCopies: policy.spareCopies,
    });
    owners.forEach((list, expert) => {
      for (const member of list) draft.give({ slot: first + expert, node: members[member]! });
    });
  });
}

/** Copies that were planned for lost experts and replicas. */
function repairCopies(draft: Draft, current: Placement | undefined): number {
  return current === undefined ? 0 : draft.changes().copies.length;
}

/**
 * Gives every slot an owner, then every slot its replicas. Returns whether that is all for now: no
 * expert was lost, and no room was made that the next round will need.
 *
 * Whatever has room is placed before room is made for others. So room that a round makes is filled
 * in the next one, and every two rounds come closer to all replicas or are the last.
 */
function repair(draft: Draft, policy: PlanPolicy): boolean {
  const byLoad = draft.owners.map((_, slot) => slot)
    .sort((a, b) => draft.load[b]! - draft.load[a]! || a - b);
  const freed: Freed = { copies: new Set(), claimed: [] };
  const lost = byLoad.filter((slot) => draft.owners[slot]!.length === 0);
  for (const slot of lost.filter((slot) => !place(draft, slot))) {
    freeRoom(draft, { slot, copiesMin: 1, freed });
  }
  // Lost experts are not kept waiting for replicas of others.
  if (lost.length > 0) return false;
  const replicas = Math.min(policy.replicas, eligibleCount(draft));
  let copiesLeft = policy.copiesMax;
  const lacking: number[] = [];
  for (const slot of byLoad) {
    let missing = replicas - draft.owners[slot]!.length;
    while (missing > 0 && copiesLeft > 0 && place(draft, slot)) {
      [missing, copiesLeft] = [missing - 1, copiesLeft - 1];
    }
    if (missing > 0) lacking.push(slot);
  }
  let hopeless = 0;
  for (const slot of lacking) {
    if (copiesLeft-- <= 0 || hopeless >= HOPELESS_MAX) break;
    const isFreed = freeRoom(draft, { slot, copiesMin: replicas, freed }) ||
      moveAway(draft, { slot, freed });
    if (!isFreed) hopeless += 1;
  }
  // Balancing would fill the room that was freed for the next round.
  return freed.copies.size === 0;
}

/** Slots for which no room was found before the others are left to the next round. */
const HOPELESS_MAX = 16;

function eligibleCount(draft: Draft): number {
  return draft.nodes.filter((_, node) => draft.isEligible(node)).length;
}

/** Gives a slot to the best node with room; false when there is none. */
function place(draft: Draft, slot: number): boolean {
  const busy = draft.busy(draft.grid.layerOf(slot));
  const cost = (node: number) => busy[node]! + draft.load[slot]! / draft.nodes[node]!.speed;
  let best: Copy | undefined;
  for (let node = 0; node < draft.nodes.length; node++) {
    const copy = { node, slot };
    if (!draft.canTake(copy)) continue;
    if (best === undefined) best = copy;
    else if (draft.holds(copy) !== draft.holds(best)) best = draft.holds(copy) ? copy : best;
    else if (cost(node) < cost(best.node)) best = copy;
  }
  if (best) draft.give(best);
  return best !== undefined;
}

/** Room that a plan makes for the next round, where what it takes away is gone from memory. */
interface Freed {
  /** Copies that were taken or given for it, as "node:slot". */
  readonly copies: Set<string>;
  /** Bytes by node that slots of this round wait for. */
  readonly claimed: number[];
}

/** Bytes of a node that will be free once the draft is in force, and that no slot waits for. */
function roomAfter(draft: Draft, node: number, { claimed }: Freed): number {
  return draft.roomAfter(node) - (claimed[node] ?? 0);
}

function claim(draft: Draft, { copy, freed }: { copy: Copy; freed: Freed }): void {
  freed.claimed[copy.node] = (freed.claimed[copy.node] ?? 0) + draft.bytes(copy);
}

/**
 * Takes the least useful spare copies from a node that could own `slot`, for the next round, if they
 * make enough room: else balancing would bring them back, to be taken again.
 */
function freeRoom(
  draft: Draft,
  args: { slot: number; copiesMin: number; freed: Freed },
): boolean {
  const { slot, copiesMin, freed } = args;
  let best: { node: number; taken: readonly Copy[]; load: number } | undefined;
  for (let node = 0; node < draft.nodes.length; node++) {
    if (!draft.mayOwn({ node, slot }) || draft.owns({ node, slot })) continue;
    let room = roomAfter(draft, node, freed) - draft.bytes({ node, slot });
    let load = 0;
    const taken: Copy[] = [];
    const spares = room >= 0 ? [] : sparesOn(draft, { node, copiesMin, freed });
    for (const spare of spares) {
      if (room >= 0) break;
      taken.push(spare);
      room += draft.bytes(spare);
      load += draft.share(spare.slot);
    }
    if (room >= 0 && (!best || load < best.load)) best = { node, taken, load };
  }
  if (!best) return false;
  for (const copy of best.taken) {
    draft.take(copy);
    freed.copies.add(`${copy.node}:${copy.slot}`);
  }
  claim(draft, { copy: { node: best.node, slot }, freed });
  return true;
}

/** A node's copies of experts that have more than `copiesMin`, those that bear least first. */
function sparesOn(
  draft: Draft,
  { node, copiesMin, freed }: { node: number; copiesMin: number; freed: Freed },
): Copy[] {
  return draft.owners
    .flatMap((owners, slot) =>
      owners.length > copiesMin && owners.includes(node) && !freed.copies.has(`${node}:${slot}`)
        ? [{ node, slot }]
        : []
    )
    .sort((a, b) => draft.share(a.slot) - draft.share(b.slot) || a.slot - b.slot);
}

/**
 * Only nodes that own `slot` already have room: moves another expert onto one of them, so that its
 * old node has room in the next round.
 */
function moveAway(draft: Draft, args: { slot: number; freed: Freed }): boolean {
  const { slot, freed } = args;
  for (let node = 0; node < draft.nodes.length; node++) {
    if (!draft.mayOwn({ node, slot }) || draft.owns({ node, slot })) continue;
    const missing = draft.bytes({ node, slot }) - roomAfter(draft, node, freed);
    for (let other = 0; other < draft.owners.length; other++) {
      if (!draft.owns({ node, slot: other }) || freed.copies.has(`${node}:${other}`)) continue;
      if (draft.bytes({ node, slot: other }) < missing) continue;
      const goal = draft.nodes.findIndex((_, to) => {
        const copy = { node: to, slot: other };
        return draft.canTake(copy) && roomAfter(draft, to, freed) >= draft.bytes(copy);
      });
      if (goal < 0) continue;
      draft.give({ node: goal, slot: other });
      draft.take({ node, slot: other });
      freed.copies.add(`${node}:${other}`).add(`${goal}:${other}`);
      claim(draft, { copy: { node, slot }, freed });
      return true;
    }
  }
  return false;
}

function result(
  draft: Draft,
  args: { request: PlanRequest; refused: ReadonlyMap<NodeId, string> },
): PlannedPlacement {
  const { policy, current } = args.request;
  const { copies, drops } = draft.changes();
  const nameOf = (node: number) => draft.nodes[node]!.id;
  const named = ({ node, slot }: Copy) => ({ node: nameOf(node), slot });
  const isNotRefused = (id: NodeId) => !args.refused.has(id);
  const counts = draft.owners.map((owners) => owners.length);
  return {
    owners: draft.owners.map((owners, slot) =>
      // An expert that found no new place stays with its absent owners: they may come back.
      owners.length === 0 ? (current?.owners[slot] ?? []).filter(isNotRefused) : owners.map(nameOf)
    ),
    copies: copies.map(named),
    drops: drops.map(named),
    uncovered: counts.flatMap((count, slot) => count === 0 ? [slot] : []),
    underReplicated: counts.filter((count) => count < policy.replicas).length,
    refused: args.refused,
  };
}
