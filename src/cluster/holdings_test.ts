import assert from "node:assert/strict";
import fc from "fast-check";
import { ExpertGrid } from "./expert_grid.ts";
import { type Assignment, Holdings } from "./holdings.ts";

const grid = new ExpertGrid({ layers: [0, 1], experts: 4 });

function holdings(held: number[] = [], capacity = 4): Holdings {
  return new Holdings({ node: "a", incarnation: 7, grid, capacity, held });
}

function assignment(serial: number, keep: number[], rest: Partial<Assignment> = {}): Assignment {
  return { fence: 1, serial, epochMin: 1, epochMax: 1, keep: new Set(keep), ...rest };
}

Deno.test("Holdings loads what is missing, drops the rest at once, and serves what is loaded", () => {
  const shard = holdings([0, 1]);
  assert.deepEqual(shard.assign(assignment(1, [1, 5])), { load: [5], drop: [0] });
  assert.equal(shard.refusal({ epoch: 1, layer: 0, experts: [1] }), undefined);
  assert.equal(shard.refusal({ epoch: 1, layer: 1, experts: [1] }), "unknown_expert");
  assert.ok(shard.loaded(5));
  assert.equal(shard.refusal({ epoch: 1, layer: 1, experts: [1] }), undefined);
  assert.equal(shard.refusal({ epoch: 1, layer: 0, experts: [0] }), "unknown_expert");
  assert.equal(shard.refusal({ epoch: 1, layer: 9, experts: [0] }), "unknown_expert");
  assert.equal(shard.refusal({ epoch: 1, layer: 0, experts: [99] }), "unknown_expert");
});

Deno.test("Holdings refuses calls of older and later plans", () => {
  const shard = holdings([0]);
  assert.equal(shard.refusal({ epoch: 1, layer: 0, experts: [0] }), "wrong_epoch");
  shard.assign(assignment(1, [0], { epochMin: 2, epochMax: 3 }));
  const at = (epoch: number) => shard.refusal({ epoch, layer: 0, experts: [0] });
  assert.deepEqual([1, 2, 3, 4].map(at), ["wrong_epoch", undefined, undefined, "wrong_epoch"]);
});

Deno.test("Holdings follows the newest assignment whatever the order of arrival", () => {
  const lists = fc.array(fc.uniqueArray(fc.nat(7), { maxLength: 4 }), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(fc.property(lists, fc.array(fc.nat(5), { maxLength: 12 }), (keeps, order) => {
    const shard = holdings();
    const words = keeps.map((keep, i) => assignment(i + 1, keep));
    const loading = new Set<number>();
    for (const i of [...order, keeps.length - 1]) {
      const word = words[i];
      if (!word) continue;
      const { load, drop } = shard.assign(word);
      for (const slot of load) loading.add(slot);
      assert.ok(drop.every((slot) => !shard.held.has(slot)));
      const [next] = loading;
      if (next !== undefined && loading.delete(next)) shard.loaded(next);
    }
    for (const slot of loading) shard.loaded(slot);
    assert.deepEqual([...shard.held].sort(), [...keeps.at(-1)!].sort());
  }));
});

Deno.test("Holdings prefers a later planner, and forgets fences with its lease", () => {
  const shard = holdings([0, 1]);
  shard.assign(assignment(1, [0, 1], { fence: 9 }));
  assert.deepEqual(shard.assign(assignment(5, [0], { fence: 8 })), { load: [], drop: [] });
  shard.rejoined();
  assert.deepEqual(shard.assign(assignment(1, [0], { fence: 2 })).drop, [1]);
});

Deno.test("Holdings never loads beyond its memory, and says so", () => {
  const shard = holdings([0], 2);
  const { load } = shard.assign(assignment(1, [0, 1, 2, 3]));
  assert.deepEqual(load, [1]);
  assert.equal(shard.report().failure, "No room for 4 experts, 2 fit");
});

Deno.test("Holdings reports what cannot be loaded, and tries again when told", () => {
  const shard = holdings();
  shard.assign(assignment(3, [6]));
  shard.loadFailed(6, "the file is gone");
  const report = shard.report();
  assert.equal(report.failure, "Cannot load expert 2 of layer 1: the file is gone");
  assert.deepEqual([report.serial, report.incarnation, report.held.size], [3, 7, 0]);
  assert.deepEqual(shard.retryFailed().load, [6]);
  assert.equal(shard.report().failure, undefined);
  shard.assign(assignment(4, []));
  assert.ok(!shard.loaded(6), "not wanted any more");
});

Deno.test("Holdings.version rises with everything that a report says", () => {
  const shard = new Holdings({ node: "s", incarnation: 1, grid, capacity: 2 });
  const order = { fence: 1, serial: 1, epochMin: 1, epochMax: 1, keep: new Set([0, 1, 2]) };
  let [version, text] = [shard.version, JSON.stringify(shard.report())];
  const changes: Record<string, () => void> = {
    "an assignment": () => shard.assign(order),
    "an expert": () => shard.loaded(0),
    "a failure": () => shard.loadFailed(1, "gone"),
    "another try": () => shard.retryFailed(),
    "another store": () => shard.rejoined(),
  };
  const said = () => {
    const { held, ...rest } = shard.report();
    return JSON.stringify({ ...rest, held: [...held] });
  };
  for (const [name, change] of Object.entries(changes)) {
    change();
    assert.ok(shard.version > version, name);
    assert.notEqual(said(), text, name);
    [version, text] = [shard.version, said()];
  }
  shard.assign(order);
  assert.ok(shard.version > version, "after another store the same order is new");
  version = shard.version;
  shard.assign(order);
  shard.loaded(7);
  assert.equal(shard.version, version, "nothing happened");
});
