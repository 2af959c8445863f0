/**
 * Improves a draft, layer by layer: spare copies follow the load, then experts move off the busiest
 * node, while that pays for the transfer. Coverage and replicas stay as they are; planner.ts sees to
 * them.
 */
import type { Copy, Draft } from "./draft.ts";
import type { PlanPolicy } from "./planner.ts";

export interface BalanceOptions {
  readonly policy: Pick<
    PlanPolicy,
    | "balanceMax"
    | "horizonSeconds"
    | "loadBytesPerSecond"
    | "replicas"
    | "spareCopies"
  >;
  readonly copiesLeft: number;
  /** Only changes that save more time than their transfer takes. */
  readonly mustPay: boolean;
}

/** A move of one expert. */
interface Change {
  readonly to: Copy;
  readonly from: Copy;
  /** Time of the busier one of the two nodes afterwards, per second. */
  readonly busyAfter: number;
}

/** Changes the draft; returns how many copies were planned. */
export function balance(draft: Draft, options: BalanceOptions): number {
  let copies = 0;
  const layers = draft.grid.layers
    .map((layer) => ({ layer, excess: excessOf(draft, layer) }))
    .sort((a, b) => b.excess - a.excess || a.layer - b.layer);
  for (const { layer } of layers) {
    copies += followLoad(draft, { layer, options, copiesLeft: options.copiesLeft - copies });
    while (copies < options.copiesLeft) {
      const change = bestChange(draft, { layer, options });
      if (!change) break;
      draft.give(change.to);
      draft.take(change.from);
      copies += 1;
    }
  }
  return copies;
}

/** A spare copy changes hands when the new expert's copies carry this much more than the old one's. */
const SPARE_HYSTERESIS = 1.5;

/**
 * Gives spare copies to the experts with the highest load per copy, up to the policy's number, then
 * takes them from those that need them least. They serve balance, and let calls reach fewer nodes.
 */
function followLoad(
  draft: Draft,
  args: { layer: number; options: BalanceOptions; copiesLeft: number },
): number {
  const { layer, options: { policy, mustPay }, copiesLeft } = args;
  let copies = 0;
  let spares = sparesOf(draft, { layer, replicas: policy.replicas });
  while (copies < copiesLeft && policy.spareCopies > 0) {
    const isFull = spares >= policy.spareCopies;
    const to = hottest(draft, layer, (copy) => draft.canTake(copy)) ??
      hottest(draft, layer, (copy) => draft.mayOwn(copy) && !draft.owns(copy));
    if (!to) break;
    const hasRoom = draft.canTake(to);
    const share = draft.share(to.slot);
    const saved = share / (draft.owners[to.slot]!.length + 1) / draft.nodes[to.node]!.speed;
    if (mustPay && !pays(draft, { to, saved, policy })) break;
    if (isFull || !hasRoom) {
      const node = hasRoom ? undefined : to.node;
      const from = coldestSpare(draft, { layer, replicas: policy.replicas, node });
      if (!from) break;
      const { length } = draft.owners[from.slot]!;
      if (share <= SPARE_HYSTERESIS * draft.load[from.slot]! / (length - 1)) break;
      draft.take(from);
      spares -= 1;
    }
    // Its room may be free only once the plan without the other one is in force.
    if (!draft.canTake(to)) break;
    draft.give(to);
    spares += 1;
    copies += 1;
  }
  return copies;
}

/** The expert with the highest load per copy that fits some node, and the least busy of those. */
function hottest(
  draft: Draft,
  layer: number,
  fits: (copy: Copy) => boolean,
): Copy | undefined {
  const busy = draft.busy(layer);
  const first = draft.grid.firstSlot(layer);
  let best: Copy | undefined;
  for (let slot = first; slot < first + draft.grid.experts; slot++) {
    if (best && draft.share(slot) < draft.share(best.slot)) continue;
    for (let node = 0; node < draft.nodes.length; node++) {
      if (!fits({ node, slot })) continue;
      const isBetter = !best || draft.share(slot) > draft.share(best.slot) ||
        (slot === best.slot && busy[node]! < busy[best.node]!);
      if (isBetter) best = { node, slot };
    }
  }
  return best;
}

/** The spare copy whose loss adds least to the others of its expert: there, or on its busiest owner. */
function coldestSpare(
  draft: Draft,
  args: { layer: number; replicas: number; node: number | undefined },
): Copy | undefined {
  const busy = draft.busy(args.layer);
  const first = draft.grid.firstSlot(args.layer);
  const shareWithout = (slot: number) => draft.load[slot]! / (draft.owners[slot]!.length - 1);
  let best: Copy | undefined;
  for (let slot = first; slot < first + draft.grid.experts; slot++) {
    const owners = draft.owners[slot]!;
    if (owners.length <= args.replicas) continue;
    if (args.node !== undefined && !owners.includes(args.node)) continue;
    if (best && shareWithout(slot) >= shareWithout(best.slot)) continue;
    best = { slot, node: args.node ?? owners.reduce((a, b) => busy[b]! > busy[a]! ? b : a) };
  }
  return best;
}

/** Time that the layer's busiest node works above the mean, per second. */
function excessOf(draft: Draft, layer: number): number {
  const { busiest, mean } = summary(draft, layer);
  return busiest.busy - mean;
}

/** The busiest node, and the time that all would need if they shared perfectly. */
function summary(draft: Draft, layer: number) {
  const { busy } = draft.split(layer);
  let node = 0;
  busy.forEach((value, i) => {
    if (value > busy[node]!) node = i;
  });
  const speeds = draft.nodes.map(({ speed }, i) => draft.isEligible(i) ? speed : 0);
  const work = busy.reduce((sum, value, i) => sum + value * draft.nodes[i]!.speed, 0);
  const speed = speeds.reduce((sum, value) => sum + value, 0);
  return { busy, busiest: { node, busy: busy[node] ?? 0 }, mean: speed === 0 ? 0 : work / speed };
}

function bestChange(
  draft: Draft,
  args: { layer: number; options: BalanceOptions },
): Change | undefined {
  const { layer, options: { policy, mustPay } } = args;
  const { busy, busiest, mean } = summary(draft, layer);
  if (mean === 0 || busiest.busy <= mean * policy.balanceMax) return undefined;
  let best: Change | undefined;
  const first = draft.grid.firstSlot(layer);
  for (let slot = first; slot < first + draft.grid.experts; slot++) {
    if (!draft.owners[slot]!.includes(busiest.node)) continue;
    for (let node = 0; node < draft.nodes.length; node++) {
      const to = { node, slot };
      if (!draft.canTake(to)) continue;
      const change = afterMove(draft, { busy, busiest: busiest.node, to });
      const saved = busiest.busy - change.busyAfter;
      if (saved <= 0 || (mustPay && !pays(draft, { to, saved, policy }))) continue;
      if (!best || change.busyAfter < best.busyAfter - 1e-12) best = change;
    }
  }
  return best;
}

/** Copies in a layer beyond the promised ones. */
function sparesOf(draft: Draft, args: { layer: number; replicas: number }): number {
  const first = draft.grid.firstSlot(args.layer);
  let spares = 0;
  for (let slot = first; slot < first + draft.grid.experts; slot++) {
    spares += Math.max(0, draft.owners[slot]!.length - args.replicas);
  }
  return spares;
}

interface Candidate {
  readonly busy: readonly number[];
  readonly busiest: number;
  readonly to: Copy;
}

function afterMove(draft: Draft, { busy, busiest, to }: Candidate): Change {
  const part = draft.part({ node: busiest, slot: to.slot });
  const here = busy[busiest]! - part / draft.nodes[busiest]!.speed;
  const there = busy[to.node]! + part / draft.nodes[to.node]!.speed;
  return { to, from: { node: busiest, slot: to.slot }, busyAfter: Math.max(here, there) };
}

/** Whether the time saved within the horizon exceeds the time of the transfer. */
function pays(
  draft: Draft,
  args: { to: Copy; saved: number; policy: BalanceOptions["policy"] },
): boolean {
  const { to, saved, policy } = args;
  if (draft.holds(to)) return true;
  const bytes = draft.bytes(to);
  return saved * policy.horizonSeconds > bytes / policy.loadBytesPerSecond;
}
