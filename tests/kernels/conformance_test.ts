/** Every case of the table on every backend. */
import assert from "node:assert/strict";
import { type KernelCase, type Outputs, pickRows, runCase } from "./case.ts";
import { kernelCases } from "./cases.ts";
import { optionalTest } from "../skip.ts";
import { backendEntries, fastEntries, referenceEntry } from "./backends.ts";
import { differencesFromExact, differencesFromReference, differencesInBits } from "./comparison.ts";

/** What the reference computes for a case, kept because several backends are compared with it. */
const referenceOutputs = new Map<KernelCase, Outputs>();
const expectations = new Map<KernelCase, ReturnType<KernelCase["expected"]>>();

async function referenceOf(kernelCase: KernelCase): Promise<Outputs> {
  const known = referenceOutputs.get(kernelCase);
  if (known) return known;
  const reference = await referenceEntry.open();
  const outputs = await runCase(reference, kernelCase);
  await reference.close();
  referenceOutputs.set(kernelCase, outputs);
  return outputs;
}

function expectationOf(kernelCase: KernelCase): ReturnType<KernelCase["expected"]> {
  const known = expectations.get(kernelCase) ?? kernelCase.expected();
  expectations.set(kernelCase, known);
  return known;
}

/** Labels of the backends that computed every case, for the last test of this file. */
const completed = new Set<string>();

const ops = [...new Set(kernelCases.map(({ op }) => op))];

/** Runs the cases of one op and fails with the list of those that differ. */
async function checkOp(
  op: string,
  differencesOf: (kernelCase: KernelCase) => Promise<string[]>,
): Promise<void> {
  const failures: string[] = [];
  for (const kernelCase of kernelCases.filter((c) => c.op === op)) {
    const found = await differencesOf(kernelCase);
    failures.push(...found.map((text) => `${kernelCase.name}: ${text}`));
  }
  assert.deepEqual(failures, [], `${op} differs`);
}

Deno.test("the case table covers every op", async () => {
  const backend = await referenceEntry.open();
  // writeKv has no output of its own: the attention cases read back what it stored.
  assert.deepEqual(new Set([...ops, "writeKv"]), new Set(Object.keys(backend.ops)));
  await backend.close();
});

Deno.test("case names are unique inside an op", () => {
  const names = kernelCases.map(({ op, name }) => `${op} ${name}`);
  assert.deepEqual(names.filter((name, i) => names.indexOf(name) !== i), []);
});

Deno.test("reference backend equals the formulas after one rounding", async (t) => {
  const backend = await referenceEntry.open();
  for (const op of ops) {
    await t.step(
      op,
      () =>
        checkOp(
          op,
          async (kernelCase) =>
            differencesFromExact(await runCase(backend, kernelCase), expectationOf(kernelCase)),
        ),
    );
  }
  assert.equal(backend.usedBytes(), 0);
  await backend.close();
  completed.add(referenceEntry.label);
});

for (const entry of fastEntries) {
  optionalTest(
    { name: `${entry.label} backend agrees with the reference`, needs: entry.needs },
    async (t) => {
      const backend = await entry.open();
      const before = backend.usedBytes();
      for (const op of ops) {
        await t.step(op, () =>
          checkOp(op, async (kernelCase) =>
            differencesFromReference(
              await runCase(backend, kernelCase),
              await referenceOf(kernelCase),
              expectationOf(kernelCase),
            )));
      }
      assert.equal(backend.usedBytes(), before);
      const { variant, threads } = backend.description;
      assert.deepEqual([variant, threads], [entry.variant, entry.threads]);
      await backend.close();
      completed.add(entry.label);
    },
  );
}

for (const entry of backendEntries) {
  optionalTest({
    name: `${entry.label} backend computes a row alone as in a batch, bit for bit`,
    needs: entry.needs,
  }, async (t) => {
    const backend = await entry.open();
    for (const op of ops) {
      await t.step(op, () =>
        checkOp(op, async (kernelCase) => {
          const rows = kernelCase.rows ?? 0;
          if (rows < 2) return [];
          const whole = await runCase(backend, kernelCase);
          const found: string[] = [];
          for (const picked of selectionsOf(rows)) {
            const alone = await runCase(backend, kernelCase, picked);
            const names = differencesInBits(alone, rowsOfOutputs(whole, rows, picked));
            found.push(...names.map((name) => `${name} of rows ${picked} alone`));
          }
          return found;
        }));
    }
    await backend.close();
  });
}

/** Selections of rows: single ones, a few out of order, all but the first in reverse. */
function selectionsOf(rows: number): number[][] {
  const middle = rows >> 1;
  const reversed = Array.from({ length: rows - 1 }, (_, i) => rows - 1 - i);
  return [[0], [rows - 1], [middle], [rows - 1, 0, middle], reversed];
}

/** The part of each output that belongs to the picked rows. */
function rowsOfOutputs(outputs: Outputs, rows: number, picked: readonly number[]): Outputs {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, values]) => {
      return [name, pickRows(values, values.length / rows, picked)];
    }),
  );
}

optionalTest(
  {
    name: "backends of one numeric class give the same bits",
    needs: fastEntries.flatMap((e) => e.needs),
  },
  async () => {
    const open = await Promise.all(fastEntries.map((entry) => entry.open()));
    const classes = Map.groupBy(open, (backend) => backend.description.numericClass);
    assert.ok(classes.size < open.length, `classes: ${[...classes.keys()]}`);
    const found: string[] = [];
    for (const kernelCase of kernelCases) {
      for (const [first, ...others] of classes.values()) {
        const bits = await runCase(first!, kernelCase);
        for (const other of others) {
          const names = differencesInBits(await runCase(other, kernelCase), bits);
          const { variant, threads } = other.description;
          found.push(...names.map((name) => `${variant} x${threads}: ${kernelCase.name}: ${name}`));
        }
      }
    }
    for (const backend of open) await backend.close();
    assert.deepEqual(found, []);
  },
);

Deno.test("the conformance cases really ran on every backend of this machine", () => {
  const expected = backendEntries.filter(({ needs }) => needs.every(({ missing }) => !missing));
  assert.deepEqual([...completed].sort(), expected.map(({ label }) => label).sort());
});
