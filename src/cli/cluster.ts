/**
 * `cluster`: what fits where before anything is bought (`plan`), and how a running cluster is and what
 * it shall do (`status`, `drain`, `rebalance`), asked of its front over HTTP.
 */
import type { ClusterStatusBody } from "@/api/cluster.ts";
import { snakeCase } from "@/api/snake_case.ts";
import { ClusterClient } from "./cluster_client.ts";
import { planCluster } from "./cluster_plan.ts";
import { statusLines } from "./cluster_report.ts";
import { type Flags, UsageError } from "./flags.ts";
import { printLine } from "./terminal.ts";

type Action = (flags: Flags, args: readonly string[]) => Promise<number>;

const actions: Readonly<Record<string, Action>> = { plan, status, drain, rebalance };

export async function cluster(flags: Flags): Promise<number> {
  const [name, ...args] = flags.positionals;
  const names = Object.keys(actions).join(", ");
  if (name === undefined) throw new UsageError(`Say what to do: ${names}`);
  if (!Object.hasOwn(actions, name)) throw new UsageError(`"${name}" is none of ${names}`);
  return await actions[name]!(flags, args);
}

function noArguments(args: readonly string[]): void {
  if (args.length > 0) throw new UsageError(`Unexpected argument "${args[0]}"`);
}

async function plan(flags: Flags, args: readonly string[]): Promise<number> {
  noArguments(args);
  const { lines, report } = await planCluster(flags);
  if (flags.on("json")) printLine(JSON.stringify(snakeCase(report), null, 2));
  else for (const line of lines) printLine(line);
  return report.fits ? 0 : 1;
}

async function status(flags: Flags, args: readonly string[]): Promise<number> {
  noArguments(args);
  const status = await (await ClusterClient.open(flags)).status();
  if (flags.on("json")) printLine(JSON.stringify(status, null, 2));
  else for (const line of statusLines(status)) printLine(line);
  return status.problem === null ? 0 : 1;
}

/** Asks, and waits until the node is empty. */
async function drain(flags: Flags, args: readonly string[]): Promise<number> {
  const [node, ...rest] = args;
  if (node === undefined) throw new UsageError("Say which node to drain, as `cluster status` does");
  noArguments(rest);
  const client = await ClusterClient.open(flags);
  const draining = !flags.on("cancel");
  await client.drain(node, draining);
  if (!draining) {
    printLine(`${node} takes experts again`);
    return 0;
  }
  let shown = "";
  for await (const { nodes } of client.watch(flags)) {
    const left = nodes.find(({ id }) => id === node);
    if (!left || (left.draining && left.planned + left.held === 0)) {
      printLine(`${node} is empty: it can be stopped`);
      return 0;
    }
    const text = `${node} drains: ${left.planned} experts planned there, ${left.held} loaded`;
    if (text !== shown) printLine(shown = text);
  }
  printLine(`${node} still has experts that no other node took: see cluster status`);
  return 1;
}

/** Asks, and waits until the planner has come to rest. */
async function rebalance(flags: Flags, args: readonly string[]): Promise<number> {
  noArguments(args);
  const client = await ClusterClient.open(flags);
  const before = await client.status();
  await client.rebalance();
  const rest = new Rest(before.epoch);
  let now = before;
  for await (const status of client.watch(flags)) {
    now = status;
    if (rest.reached(status)) break;
  }
  const epochs = `epoch ${before.epoch} → ${now.epoch}`;
  // What calls do under the new plan shows after a while: here it is what the plans foresee.
  const [foreseen, planned] = [before, now].map((status) => status.planned_balance.toFixed(3));
  const balance = `balance ${foreseen} → ${planned}`;
  const copies = now.plans.copies - before.plans.copies;
  const drops = now.plans.drops - before.plans.drops;
  printLine(
    now.epoch === before.epoch
      ? `Nothing moved: epoch ${now.epoch}, balance ${planned}`
      : now.phase === "following"
      ? `${now.planner} planned anew: ${epochs}, ${balance}`
      : `${copies} experts copied, ${drops} dropped: ${epochs}, ${balance}`,
  );
  if (!rest.isReached) printLine(`The planner is still ${now.phase}: see cluster status`);
  return rest.isReached ? 0 : 1;
}

/** Status answers without a new epoch after which another front's planner counts as at rest. */
const QUIET_ANSWERS = 20;

/** When a planner that was asked for a new plan has nothing more to do. */
class Rest {
  #epoch: number;
  #quiet = 0;
  isReached = false;

  constructor(epoch: number) {
    this.#epoch = epoch;
  }

  /** The front that plans says so itself; of another one only its plans are seen. */
  reached({ phase, rebalancing, epoch }: ClusterStatusBody): boolean {
    this.#quiet = epoch === this.#epoch ? this.#quiet + 1 : 0;
    this.#epoch = epoch;
    this.isReached = phase === "following"
      ? this.#quiet >= QUIET_ANSWERS
      : phase === "idle" && !rebalancing;
    return this.isReached;
  }
}
