/**
 * How evenly four real shards share skewed traffic before and after a rebalance, and how many of them
 * a call reaches: `deno run -A tests/cluster/balance_trial.ts [--replicas N] [--seconds N]
 * [--throttle N] [--streams N]`. The figures are the front's own (`cluster status`): rows that calls
 * gave to each shard, over the speed that it says it has. `--throttle` stops one shard for so many of
 * every 20 milliseconds, so that it is slower than the others and has to be given less.
 */
import { parseArgs } from "node:util";
import { systemClock } from "@/clock.ts";
import type { ClusterFront } from "@/cluster/front.ts";
import { eventually } from "../patience.ts";
import { FrontRig, pause } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";
import { stream } from "./stream_load.ts";

export interface BalanceOptions {
  readonly replicas: number;
  /** Traffic before the rebalance, and after it. */
  readonly seconds: number;
  /** Milliseconds of every 20 in which the first shard stands still. */
  readonly throttleMs: number;
  /** Answers at the same time. */
  readonly streams: number;
  /** Another rebalance where work was less even than this; default: never. */
  readonly balanceMax?: number;
}

export interface BalanceFigures {
  /** The planner may have improved the plan by itself before it was asked. */
  readonly epoch: number;
  /** Means over layers: of what calls did, and of what the plan foresees. */
  readonly balance: number;
  readonly plannedBalance: number;
  readonly entropy: number;
  /** Shards that a layer's call reaches, and would reach if each expert went to its least busy owner. */
  readonly fanOut: number;
  readonly leastLoadFanOut: number;
  /** What each shard says of its speed, and the rows that it got, relative to the sum. */
  readonly speeds: readonly number[];
  readonly rows: readonly number[];
}

const SHARDS = ["a", "b", "c", "d"];
const PERIOD_MS = 20;
/** A real host's own other work in the seconds after a plan makes that plan wrong. */
const REBALANCES_MAX = 3;
const ANSWER_TOKENS = 64;

/** One prompt again and again: few experts get most of the rows. */
const PROMPT = [25, 25, 25, 25];

/** Watches which experts calls ask for, and what choosing each by itself would reach. */
class LeastLoad {
  readonly #front: ClusterFront;
  readonly #work = new Map<string, number>();
  #calls = 0;
  #reached = 0;

  constructor(front: ClusterFront) {
    this.#front = front;
    const routed = front.routed.bind(front);
    front.routed = (layer, expertIndex, choices) => {
      this.#count(layer, expertIndex);
      routed(layer, expertIndex, choices);
    };
  }

  begin(): void {
    this.#work.clear();
    [this.#calls, this.#reached] = [0, 0];
  }

  get fanOut(): number {
    return this.#reached / Math.max(1, this.#calls);
  }

  #count(layer: number, expertIndex: Int32Array): void {
    const { nodes, layers } = this.#front.experts(layer);
    const { owners } = layers[0]!;
    const keyOf = (node: number) => `${layer}/${nodes[node]}`;
    const worked = (node: number) => this.#work.get(keyOf(node)) ?? 0;
    const reached = new Set<number>();
    for (const expert of new Set(expertIndex)) {
      const node = owners[expert]!.reduce((a, b) => worked(b) < worked(a) ? b : a);
      const rows = expertIndex.reduce((sum, other) => other === expert ? sum + 1 : sum, 0);
      this.#work.set(keyOf(node), worked(node) + rows / this.#speed(nodes[node]!));
      reached.add(node);
    }
    this.#calls += 1;
    this.#reached += reached.size;
  }

  #speed(id: string): number {
    return this.#front.context.health.speed(id);
  }
}

class BalanceTrial {
  readonly #options: BalanceOptions;
  readonly #rig: FrontRig;
  readonly #least: LeastLoad;

  constructor(options: BalanceOptions, rig: FrontRig) {
    this.#options = options;
    this.#rig = rig;
    this.#least = new LeastLoad(this.#front);
  }

  get #front(): ClusterFront {
    return this.#rig.serving.cluster as ClusterFront;
  }

  async run(): Promise<{ before: BalanceFigures; after: BalanceFigures }> {
    const before = await this.#measure();
    const { balanceMax = Infinity } = this.#options;
    let after = await this.#rebalanced();
    for (let count = 1; count < REBALANCES_MAX && after.balance > balanceMax; count++) {
      after = await this.#rebalanced();
    }
    return { before, after };
  }

  async #rebalanced(): Promise<BalanceFigures> {
    this.#front.rebalance();
    const isDone = () => {
      const { rebalancing, phase } = this.#front.status();
      return !rebalancing && phase === "idle";
    };
    await eventually("the plan is at rest", isDone);
    return await this.#measure();
  }

  async #measure(): Promise<BalanceFigures> {
    const before = this.#front.status();
    this.#least.begin();
    await Promise.all(Array.from({ length: this.#options.streams }, (_, i) => this.#work(i)));
    const status = this.#front.status();
    const rowsBefore = new Map(before.nodes.map(({ id, calls }) => [id, calls.rows]));
    const rows = status.nodes.map(({ id, calls }) => calls.rows - (rowsBefore.get(id) ?? 0));
    const speeds = status.nodes.map(({ id }) => this.#front.context.health.speed(id));
    const layers = status.calls.layers - before.calls.layers;
    return {
      epoch: status.epoch,
      balance: status.balance,
      plannedBalance: status.plannedBalance,
      entropy: status.entropy,
      fanOut: (status.calls.calls - before.calls.calls) / layers,
      leastLoadFanOut: this.#least.fanOut,
      speeds: shares(speeds),
      rows: shares(rows),
    };
  }

  async #work(number: number): Promise<void> {
    const endMs = systemClock.nowMs() + 1000 * this.#options.seconds;
    while (systemClock.nowMs() < endMs) {
      const promptIds = [...PROMPT, 30 + number];
      await stream(this.#rig, { promptIds, tokens: ANSWER_TOKENS });
    }
  }
}

function shares(values: readonly number[]): number[] {
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map((value) => value / sum);
}

/** Lets a shard stand still for a part of the time, until it is disposed of. */
function throttle(shard: ShardProcess, stopMs: number): Disposable {
  let isOn = stopMs > 0;
  const cycle = async () => {
    while (isOn) {
      shard.signal("SIGSTOP");
      await pause(stopMs);
      shard.signal("SIGCONT");
      await pause(PERIOD_MS - stopMs);
    }
  };
  void cycle();
  return { [Symbol.dispose]: () => void (isOn = false) };
}

export async function runBalance(
  options: BalanceOptions,
): Promise<{ before: BalanceFigures; after: BalanceFigures }> {
  await using stack = new AsyncDisposableStack();
  const shards: ShardProcess[] = [];
  for (const name of SHARDS) shards.push(stack.use(await ShardProcess.start(name)));
  const addresses = shards.map(({ address }) => address);
  const { replicas } = options;
  await using rig = await FrontRig.open({ quantisation: "none", addresses, replicas });
  await rig.covered();
  using _ = throttle(shards[0]!, options.throttleMs);
  return await new BalanceTrial(options, rig).run();
}

if (import.meta.main) {
  const defaults = { replicas: "1", seconds: "20", throttle: "0", streams: "1" };
  const { values } = parseArgs({
    args: [...Deno.args],
    options: Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: "string" }])),
  });
  const number = (name: keyof typeof defaults) => Number(values[name] ?? defaults[name]);
  const figures = await runBalance({
    ...{ replicas: number("replicas"), seconds: number("seconds") },
    ...{ throttleMs: number("throttle"), streams: number("streams") },
  });
  const text = JSON.stringify(
    figures,
    (_, value) => typeof value === "number" ? Math.round(1000 * value) / 1000 : value,
    1,
  );
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}
