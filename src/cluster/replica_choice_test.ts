import assert from "node:assert/strict";
import fc from "fast-check";
import { ExpertGrid } from "./expert_grid.ts";
import { type ChoiceRequest, chooseReplicas, RouteTable } from "./replica_choice.ts";

const names = ["a", "b", "c", "d", "e"];

function tableOf(owners: readonly (readonly number[])[]): RouteTable {
  const grid = new ExpertGrid({ layers: [2], experts: owners.length });
  const lists = owners.map((list) => list.map((node) => names[node]!));
  return new RouteTable({ grid, placement: { epoch: 3, owners: lists } });
}

function choose(table: RouteTable, rest: Partial<ChoiceRequest> = {}) {
  return chooseReplicas({
    table,
    layer: 2,
    demand: Array.from({ length: table.grid.experts }, (_, expert) => ({ expert, rows: 1 })),
    isUsable: () => true,
    busySeconds: () => 0,
    workedSeconds: () => 0,
    speed: () => 1,
    spreadRows: Infinity,
    ...rest,
  });
}

const ownerLists = fc.array(fc.uniqueArray(fc.nat(4), { maxLength: 4 }), {
  minLength: 1,
  maxLength: 12,
});

Deno.test("chooseReplicas() gives each expert to one usable owner, or reports it missing", () => {
  fc.assert(
    fc.property(
      ownerLists,
      fc.uniqueArray(fc.constantFrom(...names)),
      fc.constantFrom(1, Infinity),
      (owners, down, spreadRows) => {
        const table = tableOf(owners);
        const isUsable = (node: number) => !down.includes(table.nodes[node]!);
        const { expertsOf, missing } = choose(table, { isUsable, spreadRows });
        const given = expertsOf.flatMap((experts, node) => {
          for (const expert of experts) {
            assert.ok(isUsable(node) && table.ownersOf(expert).includes(node));
          }
          return experts;
        });
        assert.deepEqual(
          [...given, ...missing].sort((a, b) => a - b),
          owners.map((_, expert) => expert),
        );
        for (const expert of missing) assert.ok(!table.ownersOf(expert).some(isUsable));
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("chooseReplicas() needs at most one node more than the smallest cover of five", () => {
  fc.assert(
    fc.property(ownerLists, (owners) => {
      const table = tableOf(owners);
      const used = choose(table).expertsOf.filter((experts) => experts.length > 0).length;
      let smallest = Infinity;
      for (let set = 0; set < 1 << table.nodes.length; set++) {
        const covers = owners.every((list, expert) =>
          list.length === 0 || table.ownersOf(expert).some((node) => set >> node & 1)
        );
        const size = set.toString(2).replaceAll("0", "").length;
        if (covers) smallest = Math.min(smallest, size);
      }
      assert.ok(used <= smallest + 1, `${used} nodes instead of ${smallest}`);
    }),
    { numRuns: 500 },
  );
});

Deno.test("chooseReplicas() takes the local node first and breaks ties by load", () => {
  const table = tableOf([[0, 1], [0, 1], [0, 2]]);
  const used = (rest: Partial<ChoiceRequest>) =>
    choose(table, rest).expertsOf.flatMap((experts, node) =>
      experts.length ? [table.nodes[node]] : []
    );
  assert.deepEqual(used({}), ["a"]);
  assert.deepEqual(used({ local: "c" }), ["a", "c"]);
  const tied = tableOf([[0, 1]]);
  const busy = (node: number) => node === 0 ? 2 : 1;
  assert.deepEqual(choose(tied, { busySeconds: busy }).expertsOf, [[], [0]]);
});

Deno.test("chooseReplicas() spreads large calls over all owners by speed", () => {
  const table = tableOf(Array.from({ length: 12 }, () => [0, 1]));
  const speed = (node: number) => node === 0 ? 2 : 1;
  const { expertsOf } = choose(table, { spreadRows: 12, speed });
  assert.deepEqual(expertsOf.map((experts) => experts.length), [8, 4]);
});

Deno.test("RouteTable leaves out owners that have not loaded the expert", () => {
  const grid = new ExpertGrid({ layers: [0], experts: 1 });
  const placement = { epoch: 1, owners: [["a", "b"]] };
  const table = new RouteTable({ grid, placement, isHeld: (id) => id === "b" });
  assert.deepEqual(table.ownersOf(0).map((node) => table.nodes[node]), ["b"]);
});
