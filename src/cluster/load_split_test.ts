import assert from "node:assert/strict";
import fc from "fast-check";
import { maxOverMean } from "./entropy.ts";
import { splitLoad } from "./load_split.ts";

Deno.test("splitLoad() lets a fast node take more of what it shares", () => {
  // The fast node owns everything, the slow ones a half each.
  const owners = [[0, 1], [0, 1], [0, 2], [0, 2]];
  const { busy, parts } = splitLoad({ load: [1, 1, 1, 1], owners, speeds: [4, 1, 1] });
  assert.ok(maxOverMean(busy) < 1.001, `${busy}`);
  const fast = parts.reduce((sum, [part]) => sum + part!, 0);
  assert.ok(Math.abs(fast - 8 / 3) < 0.01, `${fast} of 4`);
});

Deno.test("splitLoad() gives an idle part to copies on nodes that others keep busy", () => {
  const { busy, parts } = splitLoad({ load: [6, 2], owners: [[0], [0, 1]], speeds: [1, 1] });
  assert.deepEqual([busy, parts], [[6, 2], [[6], [0, 2]]]);
});

const layers = fc.record({
  speeds: fc.array(fc.constantFrom(1, 2, 5), { minLength: 2, maxLength: 5 }),
  experts: fc.array(
    fc.record({ load: fc.nat(50), owners: fc.uniqueArray(fc.nat(4), { minLength: 1 }) }),
    { minLength: 1, maxLength: 10 },
  ),
});

Deno.test("splitLoad() keeps the loads, and its busiest node is as idle as any node set allows", () => {
  fc.assert(
    fc.property(layers, ({ speeds, experts }) => {
      const load = experts.map((expert) => expert.load);
      const owners = experts.map((expert) => [
        ...new Set(expert.owners.map((node) => node % speeds.length)),
      ]);
      const { busy, parts } = splitLoad({ load, owners, speeds });
      parts.forEach((list, expert) => {
        const sum = list.reduce((a, b) => a + b, 0);
        assert.ok(list.every((part) => part >= 0) && Math.abs(sum - load[expert]!) < 1e-6);
      });
      // What only some nodes can do is the least that these have to do: max-flow equals min-cut.
      let bound = 0;
      for (let set = 1; set < 1 << speeds.length; set++) {
        const inside = (node: number) => (set >> node & 1) === 1;
        const work = load.reduce(
          (sum, value, expert) => owners[expert]!.every(inside) ? sum + value : sum,
          0,
        );
        const speed = speeds.reduce((sum, value, node) => inside(node) ? sum + value : sum, 0);
        bound = Math.max(bound, work / speed);
      }
      assert.ok(Math.max(...busy) <= bound * 1.01 + 1e-9, `${Math.max(...busy)} over ${bound}`);
    }),
    { numRuns: 500 },
  );
});
