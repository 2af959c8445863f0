/**
 * Improves the balance of a draft, layer by layer: moves experts off the busiest node, or gives a
 * hot expert one more copy, while that pays for the transfer. Coverage and replicas stay as they
 * are; planner.ts sees to them.
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

/** One copy more, and where it comes from when it is a move. */
interface Change {
  readonly to: Copy;
  readonly from: Copy | undefined;
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
    while (copies < options.copiesLeft) {
      const change = bestChange(draft, { layer, options });
      if (!change) break;
      draft.give(change.to);
      if (change.from) draft.take(change.from);
      copies += 1;
    }
  }
  return copies;
}

/** Time that the layer's busiest node works above the mean, per second. */
function excessOf(draft: Draft, layer: number): number {
  const { busiest, mean } = summary(draft, layer);
  return busiest.busy - mean;
}

/** The busiest node, and the time that all would need if they shared perfectly. */
function summary(draft: Draft, layer: number) {
  const busy = draft.busy(layer);
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
  const mayAddSpare = sparesOf(draft, { layer, replicas: policy.replicas }) < policy.spareCopies;
  let best: Change | undefined;
  const first = draft.grid.firstSlot(layer);
  for (let slot = first; slot < first + draft.grid.experts; slot++) {
    if (!draft.owners[slot]!.includes(busiest.node)) continue;
    for (let node = 0; node < draft.nodes.length; node++) {
      const to = { node, slot };
      if (!draft.canTake(to)) continue;
      const changes = [afterMove(draft, { busy, busiest: busiest.node, to })];
      if (mayAddSpare) changes.push(afterSpare(draft, { busy, busiest: busiest.node, to }));
      for (const change of changes) {
        const saved = busiest.busy - change.busyAfter;
        if (saved <= 0 || (mustPay && !pays(draft, { change, saved, policy }))) continue;
        if (!best || change.busyAfter < best.busyAfter - 1e-12) best = change;
      }
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
  const share = draft.share(to.slot);
  const here = busy[busiest]! - share / draft.nodes[busiest]!.speed;
  const there = busy[to.node]! + share / draft.nodes[to.node]!.speed;
  return { to, from: { node: busiest, slot: to.slot }, busyAfter: Math.max(here, there) };
}

function afterSpare(draft: Draft, { busy, busiest, to }: Candidate): Change {
  const owners = draft.owners[to.slot]!.length;
  const [before, after] = [draft.share(to.slot), draft.load[to.slot]! / (owners + 1)];
  const here = busy[busiest]! - (before - after) / draft.nodes[busiest]!.speed;
  const there = busy[to.node]! + after / draft.nodes[to.node]!.speed;
  return { to, from: undefined, busyAfter: Math.max(here, there) };
}

/** Whether the time saved within the horizon exceeds the time of the transfer. */
function pays(
  draft: Draft,
  args: { change: Change; saved: number; policy: BalanceOptions["policy"] },
): boolean {
  const { change, saved, policy } = args;
  if (draft.holds(change.to)) return true;
  const bytes = draft.nodes[change.to.node]!.expertBytes;
  return saved * policy.horizonSeconds > bytes / policy.loadBytesPerSecond;
}
