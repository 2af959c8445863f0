/** Muon on both executors beside plain loops in float64, and that all its singular values grow alike. */
import assert from "node:assert/strict";
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { seededRandom } from "@/random.ts";
import { Muon } from "./muon.ts";
import { readStore, writeStore } from "./parameter_values.ts";

type Table = number[][];

const times = (a: Table, b: Table): Table =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));
const transposed = (a: Table): Table => a[0]!.map((_, j) => a.map((row) => row[j]!));
const combined = (...terms: [number, Table][]): Table =>
  terms[0]![1].map((row, i) =>
    row.map((_, j) => terms.reduce((s, [c, t]) => s + c * t[i]![j]!, 0))
  );
const normOf = (a: Table): number => Math.sqrt(a.flat().reduce((sum, x) => sum + x * x, 0));

/** Newton-Schulz as published: on the wide form, five times. */
function orthogonal(g: Table): Table {
  const isTall = g.length > g[0]!.length;
  let x = combined([1 / normOf(g), isTall ? transposed(g) : g]);
  for (let i = 0; i < 5; i++) {
    const a = times(x, transposed(x));
    const b = combined([-4.775, a], [2.0315, times(a, a)]);
    x = combined([3.4445, x], [1, times(b, x)]);
  }
  return isTall ? transposed(x) : x;
}

/** One matrix over several gradients. */
function plainSteps(
  weights: Table,
  gradients: readonly Table[],
  { clip, rate, decay, momentum }: {
    clip: number;
    rate: number;
    decay: number;
    momentum: number;
  },
): Table {
  const scale = 0.2 * Math.sqrt(Math.max(weights.length, weights[0]!.length));
  let running = combined([0, weights]);
  let w = weights;
  for (const gradient of gradients) {
    const clipped = combined([clip, gradient]);
    running = combined([momentum, running], [1 - momentum, clipped]);
    const direction = combined([momentum, running], [1 - momentum, clipped]);
    w = combined([1 - rate * decay, w], [-rate * scale, orthogonal(direction)]);
  }
  return w;
}

const backends: Record<string, () => Promise<Backend>> = {
  reference: () => Promise.resolve(openReferenceBackend()),
  wasm: () => openWasmBackend({ threads: 1, training: true }),
};

async function muonSteps(
  backend: Backend,
  weights: Table,
  gradients: readonly Table[],
  { clip, rate, decay, momentum }: Parameters<typeof plainSteps>[2],
): Promise<Table> {
  const [rows, columns] = [weights.length, weights[0]!.length];
  const matrix = async (values: Table): Promise<Matrix> => {
    const matrix = backend.createMatrix({ format: "f32", rows, columns });
    await writeStore(backend, { kind: "matrix", matrix }, Float32Array.from(values.flat()));
    return matrix;
  };
  const norm = backend.allocate("f32", [2]);
  backend.write(norm, Float32Array.of(1, clip));
  const muon = new Muon(backend);
  const [w, running] = [await matrix(weights), await matrix(combined([0, weights]))];
  for (const values of gradients) {
    const gradient = await matrix(values);
    const how = { momentumKeep: momentum, norm, rate, decay };
    muon.step({ weights: w, gradient, momentum: running, ...how });
    await backend.flush();
  }
  const flat = await readStore(backend, { kind: "matrix", matrix: w });
  muon.close();
  return weights.map((_, i) => [...flat.subarray(i * columns, (i + 1) * columns)]);
}

function randomTable(rows: number, columns: number, random: () => number): Table {
  return Array.from(
    { length: rows },
    () => Array.from({ length: columns }, () => 2 * random() - 1),
  );
}

for (const [name, open] of Object.entries(backends)) {
  for (const [rows, columns] of [[12, 20], [21, 12], [16, 16], [3, 130]] as const) {
    Deno.test(`Muon.step() of a ${rows} x ${columns} matrix is the published one (${name})`, async () => {
      const random = seededRandom(rows);
      const weights = randomTable(rows, columns, random);
      // Gradients of very different sizes: only their directions count.
      const gradients = [1, 1e-3, 40].map((size) =>
        combined([size, randomTable(rows, columns, random)])
      );
      const options = { clip: 0.3, rate: 0.05, decay: 0.1, momentum: 0.95 };
      const backend = await open();
      try {
        const got = await muonSteps(backend, weights, gradients, options);
        const wanted = plainSteps(weights, gradients, options);
        const difference = normOf(combined([1, got], [-1, wanted]));
        const moved = normOf(combined([1, wanted], [-1, weights]));
        assert.ok(difference < 2e-5 * moved, `${difference} of ${moved}`);
      } finally {
        await backend.close();
      }
    });
  }
}

Deno.test("Muon.step() moves by a matrix whose singular values are near 1", async () => {
  const random = seededRandom(4);
  const backend = await openWasmBackend({ threads: 2, training: true });
  try {
    const zero = combined([0, randomTable(24, 8, random)]);
    const gradient = randomTable(24, 8, random);
    const options = { clip: 1, rate: 1 / (0.2 * Math.sqrt(24)), decay: 0, momentum: 0.95 };
    const moved = await muonSteps(backend, zero, [gradient], options);
    for (const [i, row] of times(transposed(moved), moved).entries()) {
      for (const [j, value] of row.entries()) {
        assert.ok(Math.abs(value - (i === j ? 1 : 0)) < 0.65, `${i}, ${j}: ${value}`);
      }
    }
  } finally {
    await backend.close();
  }
});
