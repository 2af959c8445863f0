/**
 * Balance and fan-out on skewed gates (top-8 of 128): plans learned on one half of the tokens, tried
 * on the other.
 */
import assert from "node:assert/strict";
import { maxOverMean } from "@/cluster/entropy.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { ClusterNode, Placement } from "@/cluster/placement.ts";
import { defaultPlanPolicy, planPlacement } from "@/cluster/planner.ts";
import { chooseReplicas, RouteTable } from "@/cluster/replica_choice.ts";
import { skewedTokens } from "./skewed_gate.ts";

const EXPERTS = 128;
const TOKENS = 2000;
const grid = new ExpertGrid({ layers: [0], experts: EXPERTS });
const identity = { weightHash: "w", numericClass: "c" };

function nodesOf(count: number): ClusterNode[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `node-${i}`,
    speed: 1000,
    memoryBytes: 200,
    expertBytes: 1,
    weightHash: "w",
    numericClass: "c",
    draining: false,
  }));
}

function loadOf(tokens: readonly number[][]): Float64Array {
  const load = new Float64Array(EXPERTS);
  for (const expert of tokens.flat()) load[expert]! += 1;
  return load;
}

interface PlanArguments {
  readonly nodes: number;
  readonly spareCopies: number;
  readonly replicas?: number;
}

function plan(
  load: Float64Array,
  { nodes, spareCopies, replicas = 1 }: PlanArguments,
  current?: Placement,
): Placement {
  const { owners } = planPlacement({
    grid,
    nodes: nodesOf(nodes),
    load,
    policy: { ...defaultPlanPolicy, identity, spareCopies, replicas, balanceMax: 1.02 },
    current,
    held: new Map(),
    improve: "always",
  });
  return { epoch: (current?.epoch ?? 0) + 1, owners };
}

type Chooser = (table: RouteTable, token: readonly number[], load: readonly number[]) => number[][];

const bySetCover: Chooser = (table, token, load) =>
  chooseReplicas({
    table,
    layer: 0,
    demand: token.map((expert) => ({ expert, rows: 1 })),
    isUsable: () => true,
    busySeconds: () => 0,
    speed: () => 1,
    workedSeconds: (node) => load[node]!,
    spreadRows: Infinity,
  }).expertsOf.map((experts) => [...experts]);

const byLeastLoad: Chooser = (table, token, load) => {
  const chosen = table.nodes.map(() => [] as number[]);
  const sums = [...load];
  for (const expert of token) {
    const node = table.ownersOf(expert).reduce((a, b) => sums[b]! < sums[a]! ? b : a);
    chosen[node]!.push(expert);
    sums[node]! += 1;
  }
  return chosen;
};

/** Nodes per token, and balance, when every token is a call of its own. */
function run(placement: Placement, tokens: readonly number[][], choose: Chooser) {
  const table = new RouteTable({ grid, placement });
  const load = table.nodes.map(() => 0);
  let calls = 0;
  for (const token of tokens) {
    choose(table, token, load).forEach((experts, node) => {
      load[node]! += experts.length;
      if (experts.length > 0) calls += 1;
    });
  }
  return { fanOut: calls / tokens.length, balance: maxOverMean(load) };
}

Deno.test("planned placements and set covers reach the table of skewed gates", () => {
  for (const skew of [0.5, 1]) {
    const tokens = skewedTokens({ experts: EXPERTS, choices: 8, skew }, {
      tokens: TOKENS,
      seed: 7,
    });
    const [learned, tried] = [tokens.slice(0, TOKENS / 2), tokens.slice(TOKENS / 2)];
    for (const nodes of [4, 8]) {
      const fixed = Array.from({ length: EXPERTS }, (_, expert) => [
        `node-${Math.floor(expert * nodes / EXPERTS)}`,
      ]);
      const row = [run({ epoch: 1, owners: fixed }, tried, byLeastLoad).balance];
      const plain = run(plan(loadOf(learned), { nodes, spareCopies: 0 }), tried, byLeastLoad);
      row.push(plain.balance, plain.fanOut);
      for (const spareCopies of [16, 32]) {
        const placement = plan(loadOf(learned), { nodes, spareCopies });
        const least = run(placement, tried, byLeastLoad);
        const covered = run(placement, tried, bySetCover);
        row.push(least.balance, least.fanOut, covered.balance, covered.fanOut);
        assert.ok(covered.balance <= 1.1, `skew ${skew}, ${nodes} nodes: ${covered.balance}`);
        assert.ok(covered.fanOut <= least.fanOut * 0.9, `skew ${skew}, ${nodes} nodes`);
      }
      if (Deno.env.get("SIMULATION_TABLE")) {
        const line = row.map((value) => value.toFixed(2)).join(" ");
        Deno.stderr.writeSync(new TextEncoder().encode(`skew ${skew} nodes ${nodes}: ${line}\n`));
      }
    }
  }
});

Deno.test("rebalancing brings a plan for even traffic to balance on skewed traffic, and keeps it", () => {
  for (const replicas of [1, 2]) {
    for (const nodes of [4, 8]) {
      const args = { nodes, spareCopies: 16, replicas };
      const tokens = skewedTokens({ experts: EXPERTS, choices: 8, skew: 1 }, {
        tokens: TOKENS,
        seed: 3,
      });
      const [learned, tried] = [tokens.slice(0, TOKENS / 2), tokens.slice(TOKENS / 2)];
      let placement = plan(new Float64Array(EXPERTS).fill(1), args);
      const before = run(placement, tried, byLeastLoad);
      for (let round = 0; round < 10; round++) placement = plan(loadOf(learned), args, placement);
      const after = run(placement, tried, bySetCover);
      assert.ok(after.balance <= 1.1, `${nodes} nodes, ${replicas} copies: ${after.balance}`);
      assert.ok(after.fanOut <= before.fanOut * 0.9, `${after.fanOut} of ${before.fanOut} nodes`);
      const again = plan(loadOf(tried), { ...args }, placement);
      const moved = again.owners.filter((owners, slot) =>
        `${owners}` !== `${placement.owners[slot]}`
      );
      assert.ok(moved.length <= EXPERTS / 10, `${moved.length} experts move for noise`);
      if (!Deno.env.get("SIMULATION_TABLE")) continue;
      const line = [nodes, replicas, before.balance, before.fanOut, after.balance, after.fanOut];
      Deno.stderr.writeSync(
        new TextEncoder().encode(`rebalanced ${line.map((v) => v.toFixed(2))}\n`),
      );
    }
  }
});
