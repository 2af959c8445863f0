/**
 * Skewed traffic over nodes of unequal speed: the plan is made for even use, then for what the first
 * half of the tokens asked for; the second half shows how evenly calls are shared and how many nodes
 * they reach. Work is rows over speed, so the figures are exact and need no clock.
 */
import assert from "node:assert/strict";
import { AssignedWork } from "@/cluster/assigned_work.ts";
import { maxOverMean } from "@/cluster/entropy.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { ClusterNode, Placement } from "@/cluster/placement.ts";
import { defaultPlanPolicy, defaultSpareCopies, planPlacement } from "@/cluster/planner.ts";
import { chooseReplicas, type ExpertDemand, RouteTable } from "@/cluster/replica_choice.ts";
import { limits } from "@/limits.ts";
import { skewedTokens } from "./skewed_gate.ts";

const TOKENS = 4000;
const ROWS_PER_SECOND = 1000;
const BALANCE_MAX = 1.1;
const identity = { weightHash: "w", numericClass: "c" };

interface Scene {
  readonly experts: number;
  readonly choices: number;
  /** Of each node, relative to the others. */
  readonly speeds: readonly number[];
  readonly replicas: number;
  readonly spareCopies?: number;
  /** Tokens of a step. */
  readonly batch: number;
}

interface Outcome {
  readonly balance: number;
  readonly fanOut: number;
}

type Chooser = (demand: readonly ExpertDemand[], worked: readonly number[]) => readonly number[][];

class Trial {
  readonly #scene: Scene;
  readonly #grid: ExpertGrid;
  readonly #nodes: readonly ClusterNode[];
  readonly #learned: readonly number[][];
  readonly #tried: readonly number[][];

  constructor(scene: Scene) {
    const { experts, choices, speeds } = scene;
    this.#scene = scene;
    this.#grid = new ExpertGrid({ layers: [0], experts });
    this.#nodes = speeds.map((speed, i) => ({
      id: `node-${i}`,
      speed: ROWS_PER_SECOND * speed,
      ...{ memoryBytes: 2 * experts, expertBytes: 1, draining: false },
      ...identity,
    }));
    const tokens = skewedTokens({ experts, choices, skew: 1 }, { tokens: TOKENS, seed: 5 });
    this.#learned = tokens.slice(0, TOKENS / 2);
    this.#tried = tokens.slice(TOKENS / 2);
  }

  /** A plan for even use, and what comes of it in some rounds of planning for the learned tokens. */
  plan(rounds: number): Placement {
    const { experts, replicas, spareCopies = defaultSpareCopies(experts) } = this.#scene;
    const load = new Float64Array(experts);
    for (const expert of this.#learned.flat()) load[expert]! += 1;
    let current: Placement | undefined;
    for (let round = 0; round <= rounds; round++) {
      const { owners } = planPlacement({
        ...{ grid: this.#grid, nodes: this.#nodes, current, held: new Map(), improve: "always" },
        load: round === 0 ? load.map(() => 1) : load,
        policy: { ...defaultPlanPolicy, identity, replicas, spareCopies },
      });
      current = { epoch: round + 1, owners };
    }
    return current!;
  }

  /** What the rest of the tokens makes of a plan; by least load: each expert by itself. */
  run(placement: Placement, by: "cover" | "leastLoad"): Outcome {
    const table = new RouteTable({ grid: this.#grid, placement });
    const choose = by === "cover" ? this.#cover(table) : this.#leastLoad(table);
    const work = new AssignedWork({ halfLifeMs: limits.expertLoadHalfLifeMs });
    work.follow(placement.epoch);
    const worked = () => table.nodes.map((node) => work.seconds(0, node));
    let [calls, steps] = [0, 0];
    for (let first = 0; first < this.#tried.length; first += this.#scene.batch) {
      const rows = new Map<number, number>();
      for (const expert of this.#tried.slice(first, first + this.#scene.batch).flat()) {
        rows.set(expert, (rows.get(expert) ?? 0) + 1);
      }
      const demand = [...rows].map(([expert, count]) => ({ expert, rows: count }));
      steps += 1;
      choose(demand, worked()).forEach((experts, node) => {
        if (experts.length > 0) calls += 1;
        const count = experts.reduce((sum, expert) => sum + rows.get(expert)!, 0);
        work.add(0, table.nodes[node]!, count / this.#speedOf(table, node));
      });
    }
    return { balance: maxOverMean(worked()), fanOut: calls / steps };
  }

  #speedOf(table: RouteTable, node: number): number {
    return this.#nodes.find(({ id }) => id === table.nodes[node])!.speed;
  }

  #cover(table: RouteTable): Chooser {
    return (demand, worked) =>
      chooseReplicas({
        ...{ table, layer: 0, demand, isUsable: () => true, busySeconds: () => 0 },
        speed: (node) => this.#speedOf(table, node),
        workedSeconds: (node) => worked[node]!,
        spreadRows: limits.spreadRowsMin,
      }).expertsOf.map((experts) => [...experts]);
  }

  #leastLoad(table: RouteTable): Chooser {
    return (demand, worked) => {
      const sums = [...worked];
      const chosen = table.nodes.map(() => [] as number[]);
      for (const { expert, rows } of demand) {
        const node = table.ownersOf(expert).reduce((a, b) => sums[b]! < sums[a]! ? b : a);
        chosen[node]!.push(expert);
        sums[node]! += rows / this.#speedOf(table, node);
      }
      return chosen;
    };
  }
}

const speedSets = [[1, 1, 1, 1], [2, 1, 1, 0.5], [4, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]];
const shapes = [{ experts: 128, choices: 8 }, { experts: 8, choices: 2 }];

Deno.test("after rebalancing, calls of one token share the work evenly and reach fewer nodes", () => {
  for (const shape of shapes) {
    for (const speeds of speedSets) {
      // Eight nodes for eight experts: an expert alone would be more than a node's part.
      if (speeds.length > shape.experts / 2) continue;
      for (const replicas of [1, 2]) {
        const name = `${shape.experts} experts, speeds ${speeds}, ${replicas} copies`;
        const trial = new Trial({ ...shape, speeds, replicas, batch: 1 });
        const placement = trial.plan(10);
        const least = trial.run(placement, "leastLoad");
        const { balance, fanOut } = trial.run(placement, "cover");
        assert.ok(balance <= BALANCE_MAX, `${name}: balance ${balance}`);
        assert.ok(fanOut <= 0.9 * least.fanOut, `${name}: ${fanOut} of ${least.fanOut} nodes`);
      }
    }
  }
});

Deno.test("after rebalancing, calls of a batch share the work evenly", () => {
  for (const shape of shapes) {
    for (const speeds of speedSets) {
      if (speeds.length > shape.experts / 2) continue;
      for (const replicas of [1, 2]) {
        const trial = new Trial({ ...shape, speeds, replicas, batch: 8 });
        const { balance } = trial.run(trial.plan(10), "cover");
        assert.ok(balance <= BALANCE_MAX, `${shape.experts} experts, ${speeds}: ${balance}`);
      }
    }
  }
});

Deno.test("without spare copies, a plan for even use is uneven until it is made anew", () => {
  const trial = new Trial({
    ...{ experts: 128, choices: 8, speeds: [1, 1, 1, 1], replicas: 1, spareCopies: 0, batch: 1 },
  });
  const before = trial.run(trial.plan(0), "cover").balance;
  const after = trial.run(trial.plan(10), "cover").balance;
  assert.ok(before > BALANCE_MAX && after <= BALANCE_MAX, `${before} before, ${after} after`);
});
