import assert from "node:assert/strict";
import fc from "fast-check";
import { copyCounts, fitsLayer, layerQuotas, packLayer } from "./packing.ts";

Deno.test("copyCounts() gives spare copies to the highest load per copy", () => {
  const counts = copyCounts([10, 4, 1], { replicas: 1, spareCopies: 3, nodes: 3 });
  assert.deepEqual(counts, [3, 2, 1]);
});

Deno.test("packLayer() places every promised copy whenever a way exists", () => {
  const node = fc.record({
    quota: fc.integer({ min: 0, max: 9 }),
    speed: fc.constantFrom(1, 2, 5),
  });
  fc.assert(
    fc.property(
      fc.array(node, { minLength: 1, maxLength: 6 }),
      fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 0, max: 12 }),
      (nodes, load, replicas, spareCopies) => {
        const quotas = nodes.map(({ quota }) => quota);
        fc.pre(fitsLayer(quotas, load.length, replicas));
        const speeds = nodes.map(({ speed }) => speed);
        const owners = packLayer({ load, speeds, quotas, replicas, spareCopies });
        const used = nodes.map(() => 0);
        let spares = 0;
        for (const list of owners) {
          assert.equal(new Set(list).size, list.length, "two copies on one node");
          assert.ok(list.length >= replicas, "a promised copy is missing");
          spares += list.length - replicas;
          for (const owner of list) used[owner]! += 1;
        }
        assert.ok(used.every((count, i) => count <= quotas[i]!), "a node is over its quota");
        assert.ok(spares <= spareCopies);
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("fitsLayer() agrees with trying everything", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 3 }),
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: 3 }),
    (quotas, experts, replicas) => {
      assert.equal(fitsLayer(quotas, experts, replicas), canPlace(quotas, experts, replicas));
    },
  ));
});

/** Tries every set of nodes for every expert. */
function canPlace(quotas: readonly number[], experts: number, replicas: number): boolean {
  if (experts === 0) return true;
  for (let set = 0; set < 1 << quotas.length; set++) {
    const nodes = quotas.map((_, node) => node).filter((node) => set >> node & 1);
    if (nodes.length !== replicas || nodes.some((node) => quotas[node]! === 0)) continue;
    const left = quotas.map((quota, node) => nodes.includes(node) ? quota - 1 : quota);
    if (canPlace(left, experts - 1, replicas)) return true;
  }
  return false;
}

Deno.test("layerQuotas() use all memory and differ by at most one per layer in sum", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 6 }),
    fc.integer({ min: 1, max: 12 }),
    (capacities, count) => {
      const layers = Array.from({ length: count }, (_, i) => i);
      const layerBytes = layers.map(() => 3);
      const rooms = capacities.map((capacity) => ({ memoryBytes: 3 * capacity + 2, layerBytes }));
      const quotas = layerQuotas(rooms, { layers, experts: 100 });
      capacities.forEach((capacity, node) => {
        assert.equal(quotas.reduce((sum, quota) => sum + quota[node]!, 0), capacity);
      });
      const sums = quotas.map((quota) => quota.reduce((sum, value) => sum + value, 0));
      assert.ok(Math.max(...sums) - Math.min(...sums) <= 1);
    },
  ));
});

Deno.test("layerQuotas() stay within memory when layers differ, and leave less than one expert more", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 }),
    fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 4 }),
    (layerBytes, memories) => {
      const rooms = memories.map((memoryBytes) => ({ memoryBytes, layerBytes }));
      const quotas = layerQuotas(rooms, { layers: layerBytes, experts: 6 });
      memories.forEach((memoryBytes, node) => {
        const taken = quotas.reduce((sum, quota, row) => sum + quota[node]! * layerBytes[row]!, 0);
        assert.ok(taken <= memoryBytes);
        const each = quotas.map((quota) => quota[node]!);
        assert.ok(Math.max(...each) - Math.min(...each) <= 1);
        const short = layerBytes.filter((_, row) => each[row] === Math.min(...each));
        if (Math.min(...each) < 6 && Math.max(...each) > Math.min(...each)) {
          assert.ok(Math.min(...short) > memoryBytes - taken, "nothing more fits");
        }
      });
    },
  ));
});
