import assert from "node:assert/strict";
import fc from "fast-check";
import { seededRandom } from "@/random.ts";
import { ExpertGrid } from "./expert_grid.ts";
import {
  bytesOfSlots,
  capacityOf,
  type ClusterNode,
  type NodeId,
  type Placement,
  slotsOf,
} from "./placement.ts";
import {
  defaultPlanPolicy,
  type PlannedPlacement,
  planPlacement,
  type PlanPolicy,
} from "./planner.ts";

const identity = { weightHash: "w", numericClass: "c" };
const nothing: ReadonlyMap<NodeId, ReadonlySet<number>> = new Map();

function node(id: string, rest: Partial<ClusterNode> = {}): ClusterNode {
  return {
    id,
    speed: 1000,
    memoryBytes: 100,
    expertBytes: 1,
    weightHash: "w",
    numericClass: "c",
    draining: false,
    ...rest,
  };
}

interface Case {
  readonly grid: ExpertGrid;
  readonly nodes: readonly ClusterNode[];
  readonly load: Float64Array;
  readonly policy: PlanPolicy;
}

function skewedLoad(size: number, seed: number): Float64Array {
  const random = seededRandom(seed);
  return Float64Array.from({ length: size }, () => 200 / (1 + 20 * random()));
}

function plan(
  it: Case,
  rest: Partial<Parameters<typeof planPlacement>[0]> = {},
): PlannedPlacement {
  return planPlacement({ ...it, current: undefined, held: nothing, improve: true, ...rest });
}

const cases: fc.Arbitrary<Case> = fc.record({
  layers: fc.integer({ min: 1, max: 4 }),
  experts: fc.integer({ min: 1, max: 12 }),
  nodes: fc.array(
    fc.record({
      speed: fc.constantFrom(200, 1000, 3000),
      memoryBytes: fc.integer({ min: 0, max: 40 }),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  replicas: fc.integer({ min: 1, max: 3 }),
  spareCopies: fc.integer({ min: 0, max: 6 }),
  seed: fc.nat(1000),
}).map(({ layers, experts, nodes, replicas, spareCopies, seed }) => {
  const grid = new ExpertGrid({ layers: Array.from({ length: layers }, (_, i) => i * 2), experts });
  return {
    grid,
    nodes: nodes.map((rest, i) => node(`n${i}`, rest)),
    load: skewedLoad(grid.size, seed),
    policy: { ...defaultPlanPolicy, identity, replicas, spareCopies },
  };
});

function checkPlan(it: Case, planned: PlannedPlacement, current?: Placement): void {
  const placement = { epoch: 1, owners: planned.owners };
  for (const { id, ...rest } of it.nodes) {
    const resident = slotsOf(placement, id).union(slotsOf(current, id));
    assert.ok(
      resident.size <= Math.max(capacityOf(rest), slotsOf(current, id).size),
      `${id} is full`,
    );
  }
  for (const owners of planned.owners) assert.equal(new Set(owners).size, owners.length);
}

Deno.test("planPlacement() covers everything, R times, whenever memory allows, and never exceeds it", () => {
  fc.assert(
    fc.property(cases, (it) => {
      const planned = plan(it);
      checkPlan(it, planned);
      const { size } = it.grid;
      const room = it.nodes.map((each) => Math.min(capacityOf(each), size));
      const total = room.reduce((sum, value) => sum + value, 0);
      assert.equal(planned.uncovered.length, Math.max(0, size - total));
      const usable = room.filter((value) => value >= it.grid.layers.length).length;
      if (
        total >= size * it.policy.replicas && usable >= it.policy.replicas &&
        room.every((r) => r % it.grid.layers.length === 0)
      ) {
        assert.equal(planned.underReplicated, 0);
      }
      assert.deepEqual(
        plan({ ...it, nodes: [...it.nodes].reverse() }),
        planned,
        "not deterministic",
      );
    }),
    { numRuns: 600 },
  );
});

/** Plans again and again, as the coordinator does, until nothing changes. */
function settle(
  it: Case,
  current: Placement | undefined,
): { placement: Placement; rounds: number } {
  let placement = current;
  for (let rounds = 0; rounds < 60; rounds++) {
    const planned = plan(it, { current: placement });
    checkPlan(it, planned, placement);
    if (planned.copies.length + planned.drops.length === 0) {
      return { placement: { epoch: 1, owners: planned.owners }, rounds };
    }
    placement = { epoch: (placement?.epoch ?? 0) + 1, owners: planned.owners };
  }
  throw new Error("the plan never settles");
}

Deno.test("planPlacement() settles after joins, leaves and drains, round by round within memory", () => {
  const changes = fc.array(fc.constantFrom("leave", "join", "drain", "load"), { maxLength: 5 });
  fc.assert(
    fc.property(cases, changes, (start, steps) => {
      let it = start;
      let current: Placement | undefined = settle(it, undefined).placement;
      steps.forEach((step, i) => {
        let nodes = [...it.nodes];
        if (step === "leave") nodes = nodes.slice(1);
        if (step === "join") nodes.push(node(`j${i}`, { memoryBytes: 17 }));
        if (step === "drain") nodes = nodes.map((each, at) => ({ ...each, draining: at === 0 }));
        const load = step === "load" ? skewedLoad(it.grid.size, i + 77) : it.load;
        it = { ...it, nodes, load };
        current = settle(it, current).placement;
        const live = it.nodes.filter(({ draining }) => !draining);
        const total = live.reduce((sum, each) => sum + Math.min(capacityOf(each), it.grid.size), 0);
        if (total >= it.grid.size) {
          assert.ok(current.owners.every((owners) => owners.length > 0), `${step} lost an expert`);
          for (const { id } of it.nodes.filter(({ draining }) => draining)) {
            assert.equal(slotsOf(current, id).size, 0, `${id} is not drained`);
          }
        }
      });
    }),
    { numRuns: 300 },
  );
});

/** Experts that take one to three bytes, by layer. */
const unevenCases: fc.Arbitrary<Case> = fc.tuple(
  cases,
  fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 4, maxLength: 4 }),
).map(([it, bytes]) => {
  const layerBytes = bytes.slice(0, it.grid.layers.length);
  const expertBytes = Math.max(...layerBytes);
  return { ...it, nodes: it.nodes.map((each) => ({ ...each, expertBytes, layerBytes })) };
});

Deno.test("planPlacement() settles within memory where experts differ in size", () => {
  fc.assert(
    fc.property(unevenCases, (start) => {
      const first = settleBytes(start, undefined);
      settleBytes({ ...start, nodes: start.nodes.slice(1) }, first);
    }),
    { numRuns: 400 },
  );
});

function settleBytes(it: Case, current: Placement | undefined): Placement {
  let placement = current;
  for (let rounds = 0; rounds < 60; rounds++) {
    const held = new Map(it.nodes.map(({ id }) => [id, slotsOf(placement, id)]));
    const planned = plan(it, { current: placement, held });
    const next = { epoch: (placement?.epoch ?? 0) + 1, owners: planned.owners };
    for (const each of it.nodes) {
      const before = slotsOf(placement, each.id);
      const bytes = bytesOfSlots(each, it.grid, slotsOf(next, each.id).union(before));
      const max = Math.max(each.memoryBytes, bytesOfSlots(each, it.grid, before));
      assert.ok(bytes <= max, `${each.id} is full`);
    }
    placement = next;
    if (planned.copies.length + planned.drops.length === 0) return placement;
  }
  throw new Error("the plan never settles");
}

Deno.test("planPlacement() gives up spare copies for a missing replica, and does not take them back", () => {
  const grid = new ExpertGrid({ layers: [1, 3], experts: 5 });
  const nodes = ["a", "b", "c"].map((id) =>
    node(id, { memoryBytes: 88, expertBytes: 13, layerBytes: [7, 13] })
  );
  const text = "abc ab abc ac abc abc a abc bc abc";
  const owners = text.split(" ").map((names) => [...names]);
  const policy = { ...defaultPlanPolicy, identity, replicas: 2, spareCopies: 3 };
  // No room is left for the second copy of slot 6, but some slots have a third one.
  for (let shift = 0; shift < 5; shift++) {
    const load = Float64Array.from({ length: 10 }, (_, slot) => 100 / (1 + (slot + shift) % 5));
    const settled = settleBytes({ grid, nodes, load, policy }, { epoch: 1, owners });
    assert.ok(settled.owners.every((list) => list.length >= 2), JSON.stringify(settled.owners));
  }
});

const wide: Case = {
  grid: new ExpertGrid({ layers: [0, 1, 2, 3], experts: 64 }),
  nodes: [node("a"), node("b"), node("c"), node("d", { speed: 2000, memoryBytes: 200 })],
  load: skewedLoad(256, 5),
  policy: { ...defaultPlanPolicy, identity, spareCopies: 8 },
};

Deno.test("planPlacement() changes nothing when the load changes a little", () => {
  const first = { epoch: 1, owners: plan(wide).owners };
  const random = seededRandom(9);
  const load = wide.load.map((value) => value * (1 + (random() - 0.5) * 0.04));
  const planned = plan({ ...wide, load }, { current: first });
  assert.deepEqual([planned.copies, planned.drops], [[], []]);
});

Deno.test("planPlacement() moves a bounded number of experts when the load shifts, and only if it pays", () => {
  const first = { epoch: 1, owners: plan(wide).owners };
  const load = wide.load.map((value, slot) =>
    first.owners[slot]!.includes("a") ? value * 5 : value
  );
  const bounded = plan({ ...wide, load, policy: { ...wide.policy, copiesMax: 3 } }, {
    current: first,
  });
  assert.equal(bounded.copies.length, 3);
  assert.ok(bounded.drops.length <= 3);
  const dear = { ...wide.policy, loadBytesPerSecond: 1e-6 };
  const kept = plan({ ...wide, load, policy: dear }, { current: first });
  assert.equal(kept.copies.length, 0, "the transfer costs more than it saves");
  const forced = plan({ ...wide, load, policy: dear }, { current: first, improve: "always" });
  assert.ok(forced.copies.length > 0);
});

Deno.test("planPlacement() shares by speed, every layer by itself", () => {
  const { owners } = plan({ ...wide, policy: { ...wide.policy, spareCopies: 16 } });
  for (const layer of wide.grid.layers) {
    const seconds = wide.nodes.map(({ id, speed }) => {
      let load = 0;
      for (let expert = 0; expert < 64; expert++) {
        const list = owners[wide.grid.slot(layer, expert)]!;
        if (list.includes(id)) load += wide.load[wide.grid.slot(layer, expert)]! / list.length;
      }
      return load / speed;
    });
    const mean = wide.load.subarray(layer * 64, layer * 64 + 64).reduce((a, b) => a + b) / 5000;
    assert.ok(Math.max(...seconds) <= mean * 1.1, `layer ${layer}: ${seconds} against ${mean}`);
  }
});

Deno.test("planPlacement() refuses other weights and other arithmetic, with the reason", () => {
  const nodes = [node("a"), node("b", { weightHash: "x" }), node("c", { numericClass: "q8" })];
  const planned = plan({ ...wide, nodes: nodes.map((each) => ({ ...each, memoryBytes: 400 })) });
  assert.deepEqual([...planned.refused.keys()], ["b", "c"]);
  assert.match(planned.refused.get("c")!, /computes as q8, not c/);
  assert.ok(planned.owners.every((owners) => owners.join() === "a"));
  const mixed = { ...wide.policy, identity: { ...identity, numericClass: undefined } };
  assert.ok(!plan({ ...wide, nodes, policy: mixed }).refused.has("c"));
});

Deno.test("planPlacement() prefers experts that are loaded, and keeps to offered ones", () => {
  const grid = new ExpertGrid({ layers: [0], experts: 4 });
  const base = { grid, load: new Float64Array(4), policy: { ...defaultPlanPolicy, identity } };
  const held = new Map([["b", new Set([0, 1, 2])]]);
  const nodes = [node("a"), node("b")];
  const planned = plan({ ...base, nodes }, { held });
  assert.deepEqual(planned.owners.slice(0, 3), [["b"], ["b"], ["b"]]);
  const offering = [node("a", { offers: new Set([0, 1]) }), node("b", { offers: new Set([2]) })];
  const partial = plan({ ...base, nodes: offering });
  assert.deepEqual(partial.owners, [["a"], ["a"], ["b"], []]);
  assert.deepEqual(partial.uncovered, [3]);
});

Deno.test("planPlacement() leaves experts on a draining node while nobody else has room", () => {
  const grid = new ExpertGrid({ layers: [0], experts: 4 });
  const base = { grid, load: new Float64Array(4), policy: { ...defaultPlanPolicy, identity } };
  const nodes = [node("a", { memoryBytes: 3 }), node("b", { draining: true })];
  const current = { epoch: 1, owners: [["a"], ["b"], ["b"], ["b"]] };
  const planned = plan({ ...base, nodes }, { current });
  assert.deepEqual(planned.uncovered, [], "it still serves them");
  assert.equal(planned.owners.filter(([owner]) => owner === "b").length, 1);
  assert.equal(planned.copies.length, 2);
});

Deno.test("planPlacement() leaves experts that fit nowhere with their absent owner", () => {
  const grid = new ExpertGrid({ layers: [0], experts: 4 });
  const base = { grid, load: new Float64Array(4), policy: { ...defaultPlanPolicy, identity } };
  const current = { epoch: 1, owners: [["a"], ["gone"], ["gone"], ["gone"]] };
  const planned = plan({ ...base, nodes: [node("a", { memoryBytes: 2 })] }, { current });
  assert.equal(planned.uncovered.length, 2);
  assert.equal(planned.owners.filter(([owner]) => owner === "gone").length, 2);
});
