import assert from "node:assert/strict";
import { type ClusterBounds, defaultClusterBounds } from "./bounds.ts";
import { Coordinator, type CoordinatorEffect } from "./coordinator.ts";
import { ExpertGrid } from "./expert_grid.ts";
import { Holdings } from "./holdings.ts";
import { MemberTable } from "./member_table.ts";
import type { Member } from "./membership.ts";
import { capacityOf, type ClusterNode, slotsOf } from "./placement.ts";
import { defaultPlanPolicy } from "./planner.ts";

const grid = new ExpertGrid({ layers: [0], experts: 8 });
const bounds: ClusterBounds = {
  ...defaultClusterBounds,
  leaseTtlMs: 1e9,
  nodeSilenceMs: 80,
  planSettleMs: 10,
  planGraceMs: 50,
  planStallMs: 100,
  planPublishMs: 20,
  planIntervalMs: 1000,
};
const identity = { weightHash: "w", numericClass: "c" };

function nodeOf(id: string, rest: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    speed: 1,
    memoryBytes: 8,
    expertBytes: 1,
    numericClass: "c",
    weightHash: "w",
    draining: false,
    ...rest,
  };
}

/** A store, one coordinator and shards that follow at once, unless they are stuck. */
class Stage {
  readonly table = new MemberTable({ ttlMs: 1e9 });
  readonly shards = new Map<string, { holdings: Holdings; member: Member; fence: number }>();
  coordinator: Coordinator;
  readonly stuck = new Set<string>();
  /** Nodes that assignments do not reach. */
  readonly deaf = new Set<string>();
  readonly log: string[] = [];
  /** To whom assignments were sent. */
  readonly told: string[] = [];
  nowMs = 0;
  #fence: number;

  constructor(shards: readonly string[]) {
    this.#fence = this.#joinFront(1);
    this.coordinator = this.#newCoordinator();
    for (const id of shards) this.add(nodeOf(id));
  }

  #joinFront(incarnation: number): number {
    const front = {
      id: "front",
      incarnation,
      role: "front" as const,
      address: "",
      node: undefined,
    };
    return this.table.join(front, this.nowMs)!;
  }

  #newCoordinator(): Coordinator {
    const policy = { ...defaultPlanPolicy, identity };
    return new Coordinator({ id: "front", grid, policy, bounds });
  }

  restartFront(): void {
    this.#fence = this.#joinFront(2);
    this.coordinator = this.#newCoordinator();
  }

  add(node: ClusterNode, held: Iterable<number> = []): void {
    const member: Member = { id: node.id, incarnation: 1, role: "shard", address: "", node };
    const holdings = new Holdings({
      node: node.id,
      incarnation: 1,
      grid,
      capacity: capacityOf(node),
      held,
    });
    const fence = this.table.join(member, this.nowMs)!;
    this.shards.set(node.id, { holdings, member, fence });
  }

  drain(id: string): void {
    const { member, fence } = this.shards.get(id)!;
    const drained = { ...member, node: { ...member.node!, draining: true } };
    assert.ok(this.table.renew(drained, { fence, nowMs: this.nowMs }));
  }

  remove(id: string): void {
    this.table.leave(id, this.shards.get(id)!.fence);
    this.shards.delete(id);
  }

  run(spanMs: number): void {
    for (const endMs = this.nowMs + spanMs; this.nowMs < endMs; this.nowMs += 2) {
      for (const { holdings } of this.shards.values()) this.coordinator.report(holdings.report());
      const effects = this.coordinator.tick({
        nowMs: this.nowMs,
        view: this.table.view,
        lease: { fence: this.#fence, isHeld: true },
        load: new Float64Array(grid.size).fill(1),
      });
      for (const effect of effects) this.#apply(effect);
    }
  }

  #apply(effect: CoordinatorEffect): void {
    if (effect.type === "publish") {
      this.log.push(`publish ${effect.proposal.placement.epoch}`);
      this.table.publish(effect.proposal);
      return;
    }
    this.told.push(effect.node);
    if (this.deaf.has(effect.node)) return;
    const { holdings } = this.shards.get(effect.node)!;
    const { load, drop } = holdings.assign(effect.assignment);
    if (drop.length > 0) this.log.push(`${effect.node} drops ${drop.length}`);
    if (load.length > 0) this.log.push(`${effect.node} loads ${load.length}`);
    if (!this.stuck.has(effect.node)) { for (const slot of load) holdings.loaded(slot); }
  }

  get plan() {
    return this.table.view.plan!.placement;
  }
}

Deno.test("Coordinator loads experts first, publishes then, and drops last", () => {
  const stage = new Stage(["a"]);
  stage.run(100);
  assert.deepEqual(stage.log, ["a loads 8", "publish 1"]);
  stage.add(nodeOf("b"));
  stage.log.length = 0;
  stage.coordinator.rebalance();
  stage.run(300);
  assert.deepEqual(stage.log, ["b loads 4", "publish 2", "a drops 4"]);
  assert.deepEqual([slotsOf(stage.plan, "a").size, slotsOf(stage.plan, "b").size], [4, 4]);
  assert.equal(stage.coordinator.phase.name, "idle");
});

Deno.test("Coordinator serves both epochs while a plan changes, then the new one alone", () => {
  const stage = new Stage(["a"]);
  stage.run(100);
  stage.add(nodeOf("b"));
  stage.coordinator.rebalance();
  const seen = new Set<string>();
  for (let i = 0; i < 100; i++) {
    stage.run(2);
    const { epochMin, epochMax } = stage.shards.get("a")!.holdings.report();
    seen.add(`${epochMin}-${epochMax}`);
    const { epoch } = stage.plan;
    assert.ok(epochMin <= epoch && epoch <= epochMax, "the plan in force is always served");
  }
  assert.deepEqual([...seen], ["1-1", "1-2", "2-2"]);
});

Deno.test("Coordinator gives up a plan that makes no progress, and leaves the stuck node out", () => {
  const stage = new Stage(["a"]);
  stage.run(100);
  stage.add(nodeOf("b"));
  stage.stuck.add("b");
  stage.coordinator.rebalance();
  stage.run(400);
  assert.ok(!stage.log.includes("publish 2"), stage.log.join());
  assert.equal(stage.coordinator.counts.givenUp, 1);
  stage.add(nodeOf("c"));
  stage.coordinator.rebalance();
  stage.run(300);
  assert.equal(slotsOf(stage.plan, "b").size, 0);
  assert.equal(slotsOf(stage.plan, "c").size, 4);
});

Deno.test("Coordinator finds another node when one says that it cannot load", () => {
  const stage = new Stage([]);
  stage.add(nodeOf("a", { speed: 9 }));
  stage.add(nodeOf("b"));
  stage.stuck.add("a");
  stage.run(14);
  const { holdings } = stage.shards.get("a")!;
  for (let slot = 0; slot < 8; slot++) holdings.loadFailed(slot, "no such file");
  stage.run(60);
  assert.equal(slotsOf(stage.plan, "b").size, 8, "without waiting for the watchdog");
});

Deno.test("Coordinator empties a draining node before it owns nothing", () => {
  const stage = new Stage(["a", "b"]);
  stage.run(200);
  stage.log.length = 0;
  stage.drain("b");
  stage.run(300);
  assert.deepEqual(stage.log, ["a loads 4", "publish 2", "b drops 4"]);
  assert.equal(slotsOf(stage.plan, "b").size, 0);
});

Deno.test("Coordinator gives lost experts to those who are left", () => {
  const stage = new Stage(["a", "b"]);
  stage.run(200);
  stage.remove("b");
  stage.run(300);
  assert.equal(slotsOf(stage.plan, "a").size, 8);
});

Deno.test("Coordinator of a restarted front goes on with the published plan", () => {
  const stage = new Stage(["a", "b"]);
  stage.run(200);
  stage.log.length = 0;
  stage.restartFront();
  stage.run(300);
  assert.deepEqual(stage.log, [], "nothing is loaded, dropped or published");
  stage.remove("b");
  stage.run(300);
  assert.deepEqual(stage.log, ["a loads 4", "publish 2"]);
});

Deno.test("Coordinator whose store forgot the plan takes up what the nodes hold, at a later epoch", () => {
  const stage = new Stage(["a", "b"]);
  stage.run(200);
  const held = ["a", "b"].map((id) => [...stage.shards.get(id)!.holdings.held].join());
  const fresh = new Stage([]);
  for (const [id, shard] of stage.shards) {
    shard.holdings.rejoined();
    fresh.table.join(shard.member, 0);
    fresh.shards.set(id, shard);
  }
  fresh.run(200);
  assert.deepEqual(fresh.log, ["publish 2"]);
  assert.deepEqual(["a", "b"].map((id) => [...slotsOf(fresh.plan, id)].join()), held);
});

Deno.test("Coordinator says nothing while it is not the planner", () => {
  const coordinator = new Coordinator({
    id: "front",
    grid,
    policy: { ...defaultPlanPolicy, identity },
    bounds,
  });
  const table = new MemberTable({ ttlMs: 1e9 });
  const front = (id: string) => ({
    id,
    incarnation: 1,
    role: "front" as const,
    address: "",
    node: undefined,
  });
  table.join(front("elder"), 0);
  const fence = table.join(front("front"), 0)!;
  const load = new Float64Array(grid.size);
  const view = table.view;
  assert.deepEqual(coordinator.tick({ nowMs: 0, view, lease: { fence, isHeld: true }, load }), []);
  assert.equal(coordinator.phase.name, "following");
});

Deno.test("Coordinator trusts only reports that answer its newest assignment", () => {
  const stage = new Stage(["a"]);
  stage.run(100);
  // It has everything already, but an older assignment might be under way to it.
  stage.add(nodeOf("b"), [0, 1, 2, 3, 4, 5, 6, 7]);
  stage.deaf.add("b");
  stage.coordinator.rebalance();
  stage.run(60);
  assert.equal(stage.coordinator.phase.name, "copying");
  stage.deaf.clear();
  stage.run(400);
  assert.equal(slotsOf(stage.plan, "b").size, 4);
});

Deno.test("Coordinator tells nobody what to drop who has not said what it holds", () => {
  const stage = new Stage(["a"]);
  stage.run(100);
  const { member } = stage.shards.get("a")!;
  stage.table.join({ ...member, incarnation: 2 }, stage.nowMs);
  stage.told.length = 0;
  stage.run(100); // the reports are those of its earlier process
  assert.deepEqual(stage.told, []);
});
