/** Properties of sample() that must hold for any logits, on every backend. */
import assert from "node:assert/strict";
import { optionalTest } from "../skip.ts";
import { backendEntries } from "./backends.ts";
import { Bench, type Outputs, UNIT } from "./case.ts";
import { Draw } from "./naive.ts";
import {
  distribution,
  neutralParams,
  type RowParams,
  runSample,
  type SampleInput,
} from "./sample_cases.ts";
import type { Backend } from "@/kernels/backend.ts";

const VOCABULARY = 13;

/** The same logits in every row. */
function repeatedInput(
  logits: Float32Array,
  params: readonly RowParams[],
  rest: Partial<SampleInput> = {},
): SampleInput {
  const rows = params.map(() => Array.from(logits)).flat();
  return {
    vocabulary: logits.length,
    logits: Float32Array.from(rows),
    params,
    masks: [],
    adjustments: [],
    candidates: 1,
    ...rest,
  };
}

async function run(backend: Backend, input: SampleInput): Promise<Outputs> {
  const bench = new Bench(backend);
  try {
    return await runSample(bench, input);
  } finally {
    await bench.close();
  }
}

/** Parameter sets whose distributions are compared with drawn frequencies. */
const settings: readonly Partial<RowParams>[] = [
  {},
  { temperature: 0.5 },
  { temperature: 1.7, topK: 6 },
  { topP: 0.75 },
  { minP: 0.1 },
  { temperature: 1.3, topK: 9, topP: 0.9, minP: 0.03 },
  { maskIndex: 0, topP: 0.95 },
];

const masks = [new Set([0, 2, 3, 7, 8, 12])];
const adjustments = [{ token: 2, penalty: 1.5, add: -0.25 }, { token: 5, penalty: 1.2, add: 1 }];

/** Upper quantile of the chi-square distribution at z = 4.75 (one in a million), Wilson-Hilferty. */
function chiSquareLimit(freedom: number): number {
  return freedom * (1 - 2 / (9 * freedom) + 4.75 * Math.sqrt(2 / (9 * freedom))) ** 3;
}

/** Draws with the given uniforms; returns counts per id and the exact shares. */
async function drawMany(
  backend: Backend,
  options: { setting: Partial<RowParams>; uniforms: readonly number[]; seed: number },
): Promise<{ counts: number[]; shares: number[] }> {
  const { setting, uniforms, seed } = options;
  const logits = new Draw(seed).normals(VOCABULARY, 2);
  const params = uniforms.map((uniform) => ({ ...neutralParams, ...setting, uniform }));
  const input = repeatedInput(logits, params, {
    masks,
    adjustments: params.map(() => adjustments),
  });
  const { id } = await run(backend, input);
  const counts = Array.from({ length: VOCABULARY }, () => 0);
  for (const drawn of id!) counts[drawn]!++;
  const kept = distribution(input, 0);
  const total = kept.reduce((sum, { p }) => sum + p, 0);
  const shares = counts.map((_, token) => (kept.find((k) => k.id === token)?.p ?? 0) / total);
  return { counts, shares };
}

for (const entry of backendEntries) {
  optionalTest({
    name: `${entry.label} sample() draws tokens as often as their probability`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const draws = 2000;
    for (const [index, setting] of settings.entries()) {
      const draw = new Draw(900 + index);
      const uniforms = Array.from({ length: draws }, () => draw.uniform());
      const { counts, shares } = await drawMany(backend, { setting, uniforms, seed: index });
      const possible = shares.filter((share) => share > 0).length;
      let chiSquare = 0;
      shares.forEach((share, token) => {
        if (share === 0) assert.equal(counts[token], 0, `token ${token} is impossible`);
        else chiSquare += (counts[token]! - draws * share) ** 2 / (draws * share);
      });
      const limit = chiSquareLimit(possible - 1);
      assert.ok(chiSquare < limit, `${JSON.stringify(setting)}: chi-square ${chiSquare}`);
    }
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} sample() gives each token its share of evenly spaced uniforms`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const draws = 1000;
    for (const [index, setting] of settings.entries()) {
      const uniforms = Array.from({ length: draws }, (_, i) => (i + 0.5) / draws);
      const { counts, shares } = await drawMany(backend, { setting, uniforms, seed: 50 + index });
      shares.forEach((share, token) => {
        const error = Math.abs(counts[token]! - draws * share);
        assert.ok(error < 1.001, `${JSON.stringify(setting)}: token ${token} is off by ${error}`);
      });
    }
    await backend.close();
  });

  optionalTest(
    { name: `${entry.label} sample() never leaves its mask`, needs: entry.needs },
    async () => {
      const backend = await entry.open();
      for (const vocabulary of [1, 31, 32, 33, 100]) {
        const draw = new Draw(vocabulary);
        const rows = 60;
        const rowMasks = Array.from({ length: rows }, () => {
          return new Set(draw.integers(1 + draw.integer(4), vocabulary));
        });
        const params = rowMasks.map((_, row) => ({
          ...neutralParams,
          temperature: draw.integer(3) * 4,
          topK: draw.integer(3),
          topP: draw.integer(2) ? 1 : draw.uniform(),
          minP: draw.integer(2) ? 0 : draw.uniform(),
          uniform: draw.integer(2) ? draw.uniform() : Math.fround(1 - UNIT),
          maskIndex: row,
        }));
        const input = {
          vocabulary,
          logits: draw.normals(rows * vocabulary, 20),
          params,
          masks: rowMasks,
          adjustments: params.map(
            () => [{ token: draw.integer(vocabulary), penalty: 1, add: 100 }],
          ),
          candidates: 1,
        };
        const { id } = await run(backend, input);
        rowMasks.forEach((mask, row) => {
          assert.ok(mask.has(id![row]!), `row ${row}: ${id![row]} is not in [${[...mask]}]`);
        });
      }
      await backend.close();
    },
  );

  optionalTest({
    name: `${entry.label} sample() takes the lower id of equal greedy logits`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const greedy = { ...neutralParams, temperature: 0 };
    const logits = Float32Array.of(-1, 3, 0, 3, 3, -7);
    const { id, candidateId } = await run(
      backend,
      repeatedInput(logits, [greedy, { ...greedy, maskIndex: 0 }, { ...greedy, uniform: 0.99 }], {
        masks: [new Set([2, 4, 3, 5])],
        candidates: 4,
      }),
    );
    assert.deepEqual(Array.from(id!), [1, 3, 1]);
    assert.deepEqual(Array.from(candidateId!.slice(0, 4)), [1, 3, 4, 2]);
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} sample() counts a token that just reaches topP or minP as kept`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const params = { ...neutralParams, uniform: 0.999 };
    const { id } = await run(
      backend,
      repeatedInput(Float32Array.of(2, 2, 2, 2, -1e9), [
        { ...params, topP: 0.5 }, // 1/4 + 1/4 reaches 0.5
        { ...params, topP: 0.25 },
        { ...params, minP: 1 }, // equals the largest
        { ...params, topK: 3, topP: 0.75 }, // shares of the top 3 are 1/3
      ]),
    );
    assert.deepEqual(Array.from(id!), [1, 0, 3, 2]);
    await backend.close();
  });

  optionalTest({
    name: `${entry.label} sample() reports a forced id under the unmodified logits`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const logits = Float32Array.from([1, 2, 3].map((odds) => Math.log(odds)));
    const forced = { ...neutralParams, forcedId: 0, temperature: 0.1, topK: 1, maskIndex: 0 };
    const { id, logprob } = await run(
      backend,
      repeatedInput(logits, [forced], {
        masks: [new Set([1])],
        adjustments: [[{ token: 0, penalty: 2, add: -50 }]],
      }),
    );
    assert.equal(id![0], 0);
    assert.ok(Math.abs(logprob![0]! - Math.log(1 / 6)) < 1e-6);
    await backend.close();
  });

  optionalTest({
    name:
      `${entry.label} sample() divides positive and multiplies negative logits by the penalty, then adds`,
    needs: entry.needs,
  }, async () => {
    const backend = await entry.open();
    const greedy = { ...neutralParams, temperature: 0 };
    const logits = Float32Array.of(4, -1, 2.5, 0);
    const adjust = (token: number, penalty: number, add = 0) => ({ token, penalty, add });
    const lists = [
      [adjust(0, 2)], // 4 -> 2, so 2.5 wins
      [adjust(0, 1.5)], // 4 -> 2.67 stays first
      [adjust(0, 2, 0.75)], // 2.75 wins: the addition follows the penalty
      [adjust(0, 1, -10), adjust(2, 1, -10), adjust(1, 5, 4), adjust(3, 3, -0.5)], // -5 + 4 < -0.5
      [adjust(0, 1, -10), adjust(2, 1, -10), adjust(1, 0.5, 0.75)], // -0.5 + 0.75 > 0
    ];
    const { id, logprob } = await run(
      backend,
      repeatedInput(logits, lists.map(() => greedy), { adjustments: lists }),
    );
    assert.deepEqual(Array.from(id!), [2, 0, 0, 3, 1]);
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    assert.ok(Math.abs(logprob![3]! - Math.log(1 / total)) < 1e-6);
    await backend.close();
  });
}
