import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { openWasmBackend } from "@/kernels/wasm/backend.ts";
import { seededRandom } from "@/random.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import type { Quantisation } from "@/weights/precision.ts";
import { ExpertBank, type ExpertPairs } from "./expert_bank.ts";
import { ExpertStore } from "./expert_store.ts";

const folder = fileURLToPath(new URL("../../tests/fixtures/model/moe", import.meta.url));

/** A bank with all experts of the fixture's first sparse layer. */
async function withBank(
  options: { quantisation: Quantisation; threads: number },
  run: (bank: ExpertBank, layer: number) => Promise<void>,
): Promise<void> {
  const { quantisation, threads } = options;
  const store = await ExpertStore.open({ folder: diskFolder(folder), quantisation });
  const backend = await openWasmBackend({ threads });
  const bank = new ExpertBank(backend, store, { mayHoldUp: true });
  try {
    const layer = store.layers[0]!;
    for (let expert = 0; expert < store.moe.experts; expert++) await bank.load({ layer, expert });
    await run(bank, layer);
  } finally {
    bank.close();
    await backend.close();
  }
}

const random = seededRandom(4);

/** Pairs of some rows with the experts of each. */
function pairsOf(bank: ExpertBank, layer: number, choices: readonly number[][]): ExpertPairs {
  return {
    layer,
    rows: Float32Array.from({ length: choices.length * bank.width }, () => 2 * random() - 1),
    rowOfPair: choices.flatMap((experts, row) => experts.map(() => row)),
    expertOfPair: choices.flat(),
  };
}

const cases: Readonly<Record<string, readonly number[][]>> = {
  "one row, one expert": [[3]],
  "one row": [[0, 2, 5]],
  "one row, experts in no order": [[5, 0, 2]],
  "rows that share experts": [[1, 4], [0, 1], [4]],
};

for (const quantisation of ["none", "q8", "q4"] as const) {
  Deno.test(`ExpertBank.computeHere() has the bits of compute(), ${quantisation}`, () =>
    withBank({ quantisation, threads: 1 }, async (bank, layer) => {
      for (const [name, choices] of Object.entries(cases)) {
        const pairs = pairsOf(bank, layer, choices as number[][]);
        const size = pairs.expertOfPair.length * bank.width;
        const [wanted, got] = [new Float32Array(size), new Float32Array(size)];
        await bank.compute(pairs, wanted);
        assert.ok(bank.computeHere(pairs, got), name);
        assert.deepEqual(new Uint32Array(got.buffer), new Uint32Array(wanted.buffer), name);
        assert.ok(got.some((value) => value !== 0), name);
        // A pair's result is its own, in whatever company.
        const last = pairs.expertOfPair.length - 1;
        const row = pairs.rowOfPair[last]!;
        const alone = new Float32Array(bank.width);
        const rows = pairs.rows.slice(row * bank.width, (row + 1) * bank.width);
        const expertOfPair = [pairs.expertOfPair[last]!];
        bank.computeHere({ layer, rows, rowOfPair: [0], expertOfPair }, alone);
        assert.deepEqual(alone, got.slice(last * bank.width), name);
      }
    }));
}

Deno.test("ExpertBank.computeHere() leaves to the team what takes long, and all when there is one", async () => {
  await withBank({ quantisation: "q8", threads: 1 }, async (bank, layer) => {
    const pairs = pairsOf(bank, layer, Array.from({ length: 17 }, () => [1]));
    assert.equal(bank.computeHere(pairs, new Float32Array(17 * bank.width)), false);
    const few = pairsOf(bank, layer, [[1]]);
    const out = new Float32Array(bank.width);
    const running = bank.compute(pairs, new Float32Array(17 * bank.width));
    assert.equal(bank.computeHere(few, out), false, "beside a program of the team");
    await running;
    assert.ok(bank.computeHere(few, out));
  });
  await withBank({ quantisation: "q8", threads: 2 }, (bank, layer) => {
    assert.equal(
      bank.computeHere(pairsOf(bank, layer, [[1]]), new Float32Array(bank.width)),
      false,
    );
    return Promise.resolve();
  });
});
