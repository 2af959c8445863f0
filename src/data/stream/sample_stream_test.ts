import assert from "node:assert/strict";
import fc from "fast-check";
import { mix32 } from "@/random.ts";
import { balancedWeights, Mixture, shuffledIndex } from "./mixture.ts";
import { packBatch, type TokenizedSample } from "./packed_batch.ts";
import type { Pack } from "./packer.ts";
import { type SampleReference, SampleStream, type SampleStreamOptions } from "./sample_stream.ts";

interface Item {
  readonly name: string;
  readonly tokens: number;
  readonly visualTokens: number;
}

const TOKENS_MAX = 256;

/** Sizes that depend on the reference alone; `long` nearly fills a pack. */
function read({ source, index, level }: SampleReference): Item {
  const draw = mix32(index * 7 + source.length * 1009 + level);
  const tokens = source === "long" ? 200 + draw % 56 : 8 + draw % 70;
  const visualTokens = source === "text" ? 0 : Math.min(tokens - 4, 16 * (draw % 4));
  return { name: `${source}/${index}/${level}`, tokens, visualTokens };
}

const options: SampleStreamOptions<Item> = {
  sources: [
    { name: "picture", weight: 5 },
    { name: "text", weight: 2, size: 13 },
    { name: "long", weight: 0.5 },
  ],
  seed: 42,
  packing: { tokensMax: TOKENS_MAX, packsTogether: 3, bufferSamples: 24, roundsWaitedMax: 4 },
  read,
};

const names = (packs: readonly Pack<Item>[]) =>
  packs.map(({ items }) => items.map(({ name }) => name));

Deno.test("SampleStream resumed after any round goes on as if it had never stopped", async () => {
  const whole: string[][][] = [];
  const cursors: string[] = [];
  const stream = await SampleStream.open(options);
  for (let round = 0; round < 30; round++) {
    cursors.push(JSON.stringify(stream.cursor));
    if (round === 11) stream.setLevel(1);
    whole.push(names(await stream.nextRound()));
  }
  for (const from of [0, 1, 7, 12, 20, 29]) {
    const again = await SampleStream.open(options, JSON.parse(cursors[from]!));
    for (let round = from; round < 30; round++) {
      if (round === 11) again.setLevel(1);
      assert.deepEqual(names(await again.nextRound()), whole[round], `round ${round} from ${from}`);
    }
    assert.equal(JSON.stringify(again.cursor), JSON.stringify(stream.cursor));
  }
});

Deno.test("SampleStream places every drawn sample once, within the budgets", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 2 ** 32 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 48, max: 128 }),
      async (seed, packsTogether, bufferSamples, visualTokensMax) => {
        const packing = { ...options.packing, packsTogether, bufferSamples, visualTokensMax };
        const stream = await SampleStream.open({ ...options, seed, packing });
        const seen = new Map<string, number>();
        for (let round = 0; round < 12; round++) {
          const packs = await stream.nextRound();
          assert.equal(packs.length, packsTogether);
          for (const { items, tokens, visualTokens } of packs) {
            assert.ok(items.length > 0 && tokens <= TOKENS_MAX && visualTokens <= visualTokensMax);
            assert.equal(tokens, items.reduce((sum, item) => sum + item.tokens, 0));
            for (const { name } of items) seen.set(name, (seen.get(name) ?? 0) + 1);
          }
        }
        const { mixture, waiting, refused } = stream.cursor;
        const placed = [...seen.values()].reduce((a, b) => a + b, 0);
        assert.equal(placed + waiting.length + refused, mixture.drawn);
        for (const [name, count] of seen) {
          assert.ok(count === 1 || name.startsWith("text"), `${name} came ${count} times`);
        }
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("SampleStream admits long samples before they starve", async () => {
  const stream = await SampleStream.open(options);
  for (let round = 0; round < 200; round++) {
    await stream.nextRound();
    const waited = Math.max(0, ...stream.cursor.waiting.map((entry) => entry.waited));
    // Forced samples go first; a round holds at most three of the longest.
    assert.ok(waited <= options.packing.roundsWaitedMax + 3, `round ${round}: waited ${waited}`);
  }
});

Deno.test("Packer evens out visual tokens between the packs of a round", async () => {
  const stream = await SampleStream.open({
    ...options,
    sources: [{ name: "picture", weight: 1 }, { name: "text", weight: 1 }],
    packing: { ...options.packing, packsTogether: 4, bufferSamples: 64 },
  });
  let [spread, total] = [0, 0];
  for (let round = 0; round < 50; round++) {
    const loads = (await stream.nextRound()).map(({ visualTokens }) => visualTokens);
    spread += Math.max(...loads) - Math.min(...loads);
    total += loads.reduce((a, b) => a + b, 0) / 4;
  }
  assert.ok(spread / total < 0.2, `spread ${(spread / total).toFixed(3)} of the mean`);
});

Deno.test("Packer fills packs well and refuses what no pack can hold", async () => {
  const stream = await SampleStream.open(options);
  let tokens = 0;
  for (let round = 0; round < 50; round++) {
    for (const pack of await stream.nextRound()) tokens += pack.tokens;
  }
  assert.ok(tokens / (150 * TOKENS_MAX) > 0.95, `filled ${tokens / (150 * TOKENS_MAX)}`);
  const tooLong = { ...options, packing: { ...options.packing, tokensMax: 64 } };
  const short = await SampleStream.open(tooLong);
  await short.nextRound();
  assert.ok(short.cursor.refused > 0);
  const none = await SampleStream.open({
    ...tooLong,
    sources: [{ name: "long", weight: 1 }],
  });
  await assert.rejects(none.nextRound(), /1000 samples in a row are longer than 64 tokens/);
});

Deno.test("Mixture draws by weight and visits finite sources whole, in a new order each time", () => {
  const mixture = new Mixture(options.sources, { seed: 1 });
  const counts: Record<string, number> = {};
  const texts: number[] = [];
  for (let i = 0; i < 15_000; i++) {
    const { source, index } = mixture.next();
    counts[source] = (counts[source] ?? 0) + 1;
    if (source === "text") texts.push(index);
  }
  for (const { name, weight } of options.sources) {
    assert.ok(Math.abs(counts[name]! / 15_000 - weight / 7.5) < 0.015, name);
  }
  const epochs = [0, 1, 2].map((epoch) => texts.slice(epoch * 13, epoch * 13 + 13));
  for (const epoch of epochs) {
    assert.deepEqual([...epoch].sort((a, b) => a - b), Array.from({ length: 13 }, (_, i) => i));
  }
  assert.notDeepEqual(epochs[0], epochs[1]);
});

Deno.test("Mixture refuses weights that say nothing", () => {
  const open = (weight: number, size?: number) => () =>
    new Mixture([{ name: "a", weight, ...(size !== undefined && { size }) }], { seed: 0 });
  assert.throws(open(0), /Cannot mix data: no source has a weight above 0/);
  assert.throws(open(-1), /weight of "a" is -1, expected 0 or more/);
  assert.throws(open(1, 0), /source "a" has 0 samples/);
  const twice = [{ name: "a", weight: 1 }, { name: "a", weight: 1 }];
  assert.throws(() => new Mixture(twice, { seed: 0 }), /source "a" is given twice/);
});

Deno.test("shuffledIndex() is a permutation of any size", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 600 }), fc.nat(), (size, key) => {
    const seen = Array.from({ length: size }, (_, at) => shuffledIndex(at, { size, key }));
    assert.equal(new Set(seen).size, size);
    assert.ok(seen.every((index) => index >= 0 && index < size));
  }));
});

Deno.test("balancedWeights() goes from equal samples to equal sources", () => {
  assert.deepEqual(balancedWeights({ a: 100, b: 300 }, 1), { a: 0.25, b: 0.75 });
  assert.deepEqual(balancedWeights({ a: 100, b: 300 }, 0), { a: 0.5, b: 0.5 });
});

function sample(id: string, ids: number[], weights: number[]): TokenizedSample {
  return {
    id,
    ids: Int32Array.from(ids),
    weights: Float32Array.from(weights),
    tokens: ids.length,
    visualTokens: 0,
    spans: id === "b" ? [{ start: 1, count: 2 }] : [],
    tiles: id === "b" ? [new Uint8Array(12)] : [],
  };
}

Deno.test("packBatch() starts positions again and predicts nothing across borders", () => {
  const a = sample("a", [5, 6, 7, 8], [1, 0, 1, 1]);
  const b = sample("b", [1, 2, 3, 4, 9], [1, 0, 0, 0, 1]);
  const batch = packBatch([a, b]);
  assert.deepEqual([...batch.positions], [0, 1, 2, 3, 0, 1, 2, 3, 4]);
  assert.deepEqual([...batch.starts], [0, 4, 9]);
  assert.deepEqual([...batch.scoredRows], [1, 2, 7]);
  assert.deepEqual([...batch.targets], [7, 8, 9]);
  assert.deepEqual([...batch.weights], [1, 1, 1]);
  assert.equal(batch.weightSum, 3);
  assert.deepEqual([[...batch.visualRows], batch.tiles.length], [[5, 6], 12]);
  assert.deepEqual(batch.sampleIds, ["a", "b"]);
  assert.deepEqual([...packBatch([a, b], "sample").weights], [0.5, 0.5, 1]);
  const square = packBatch([a], "square").weights[0]!;
  assert.ok(Math.abs(square - Math.SQRT1_2) < 1e-7);
});
