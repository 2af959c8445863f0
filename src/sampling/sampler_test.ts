import assert from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { noAdjustments } from "./adjustments.ts";
import { greedyParams } from "./params.ts";
import { Sampler, type SamplingRow } from "./sampler.ts";
import { allowedIds } from "./token_mask.ts";

const VOCABULARY = 40;

const plain: SamplingRow = {
  params: greedyParams,
  uniform: 0,
  forcedId: undefined,
  adjustments: noAdjustments,
  candidates: 0,
};

/** Samples rows of logits; id `r + 30` is the largest of row r, id 39 is padding. */
async function sampleRows(rows: readonly SamplingRow[]) {
  const backend = openReferenceBackend();
  const values = Float32Array.from({ length: rows.length * VOCABULARY }, (_, i) => {
    const [row, id] = [Math.floor(i / VOCABULARY), i % VOCABULARY];
    return id === 39 ? 9 : id === 30 + row ? 5 : id / VOCABULARY;
  });
  const mask = allowedIds({
    vocabularySize: VOCABULARY,
    usableVocabulary: 39,
    forbiddenIds: [38],
  });
  const sampler = new Sampler(backend, mask);
  const logits = backend.allocate("f32", [rows.length, VOCABULARY]);
  backend.write(logits, values);
  const sampled = await sampler.record(logits, rows)();
  backend.free(logits);
  sampler.close();
  assert.equal(backend.usedBytes(), 0);
  await backend.close();
  const logprobs = (row: number) => {
    const slice = values.subarray(row * VOCABULARY, (row + 1) * VOCABULARY);
    const total = slice.reduce((sum, logit) => sum + Math.exp(logit), 0);
    return Array.from(slice, (logit) => logit - Math.log(total));
  };
  return { sampled, logprobs };
}

Deno.test("Sampler draws per row, never what the mask forbids, with unmodified logprobs", async () => {
  const banned = { tokens: [32], penalties: [1], adds: [-Infinity] };
  const { sampled, logprobs } = await sampleRows([
    plain,
    { ...plain, candidates: 3 },
    { ...plain, adjustments: banned },
    { ...plain, adjustments: { tokens: [38, 39, 7], penalties: [1, 1, 1], adds: [100, 100, 50] } },
  ]);
  assert.deepEqual(sampled.map((row) => row.id), [30, 31, 37, 7]);
  for (const [r, row] of sampled.entries()) {
    assert.ok(Math.abs(row.logprob - logprobs(r)[row.id]!) < 1e-5);
  }
  assert.deepEqual(sampled.map((row) => row.candidates.length), [0, 3, 0, 0]);
  assert.deepEqual(sampled[1]!.candidates.map((candidate) => candidate.id), [39, 31, 38]);
});

Deno.test("Sampler reports the log-probability of a forced id, masked or not", async () => {
  const { sampled, logprobs } = await sampleRows([
    { ...plain, forcedId: 4 },
    { ...plain, forcedId: 39 },
  ]);
  assert.deepEqual(sampled.map((row) => row.id), [4, 39]);
  assert.ok(Math.abs(sampled[0]!.logprob - logprobs(0)[4]!) < 1e-5);
  assert.ok(Math.abs(sampled[1]!.logprob - logprobs(1)[39]!) < 1e-5);
});

Deno.test("Sampler draws the last possible id when the uniform number is next to 1", async () => {
  const params = { ...greedyParams, temperature: 1 };
  const { sampled } = await sampleRows([{ ...plain, params, uniform: 1 - 2 ** -53 }]);
  assert.equal(sampled[0]!.id, 37);
});

Deno.test("Sampler.record() of no rows gives no results", async () => {
  const { sampled } = await sampleRows([]);
  assert.deepEqual(sampled, []);
});
