/**
 * How the owners of replicated experts share the load when each call goes to whoever has worked
 * least: as evenly as the placement allows. Pure arithmetic on one layer; who owns what is
 * placement.ts, whom a call reaches is replica_choice.ts.
 */

export interface SplitRequest {
  /** Load of each expert. */
  readonly load: ArrayLike<number>;
  /** Node numbers that own each expert. */
  readonly owners: readonly (readonly number[])[];
  /** Load that each node does in a second. */
  readonly speeds: readonly number[];
}

export interface LoadSplit {
  /** Part of each second that each node works. */
  readonly busy: readonly number[];
  /** Load of each copy, in the order of `owners`. */
  readonly parts: readonly (readonly number[])[];
}

/** Sweeps over the experts at most, and the change of a node's time, relative to all, that ends them. */
const SWEEPS_MAX = 40;
const CHANGE_MIN = 1e-4;

/**
 * The split with the least sum of (load² / speed) over the nodes, which is also the one whose busiest
 * node is least busy: experts in turn pour their load over their owners until nothing moves.
 */
export function splitLoad({ load, owners, speeds }: SplitRequest): LoadSplit {
  const nodeLoad = speeds.map(() => 0);
  const parts = owners.map((list, expert) => {
    const speed = list.reduce((sum, node) => sum + speeds[node]!, 0);
    return list.map((node) => load[expert]! * speeds[node]! / speed);
  });
  owners.forEach((list, expert) => {
    list.forEach((node, i) => nodeLoad[node]! += parts[expert]![i]!);
  });
  const shared = owners.map((_, expert) => expert).filter((expert) => owners[expert]!.length > 1);
  const work = nodeLoad.reduce((sum, value) => sum + value, 0);
  const changeMin = CHANGE_MIN * work / speeds.reduce((sum, speed) => sum + speed, 0);
  for (let sweep = 0; sweep < SWEEPS_MAX; sweep++) {
    let change = 0;
    for (const expert of shared) {
      change = Math.max(change, pour(expert, { load, owners, speeds, nodeLoad, parts }));
    }
    if (change <= changeMin) break;
  }
  return { busy: nodeLoad.map((value, node) => value / speeds[node]!), parts };
}

/** Shares one expert anew, the others as they are; returns by how much a node's time changed. */
function pour(
  expert: number,
  state: SplitRequest & { nodeLoad: number[]; parts: number[][] },
): number {
  const { owners, speeds, nodeLoad } = state;
  const [list, parts] = [owners[expert]!, state.parts[expert]!];
  const without = list.map((node, i) => nodeLoad[node]! - parts[i]!);
  const order = list.map((_, i) => i)
    .sort((a, b) => without[a]! / speeds[list[a]!]! - without[b]! / speeds[list[b]!]!);
  // Nodes below the level are filled up to it: the least busy one first, until the load is used up.
  let [sum, speed, level] = [state.load[expert]!, 0, Infinity];
  for (const i of order) {
    if (without[i]! / speeds[list[i]!]! >= level) break;
    sum += without[i]!;
    speed += speeds[list[i]!]!;
    level = sum / speed;
  }
  let change = 0;
  list.forEach((node, i) => {
    const part = Math.max(0, level * speeds[node]! - without[i]!);
    change = Math.max(change, Math.abs(part - parts[i]!) / speeds[node]!);
    nodeLoad[node] = without[i]! + part;
    parts[i] = part;
  });
  return change;
}
