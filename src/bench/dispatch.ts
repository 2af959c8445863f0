/**
 * What a decode step costs the thread that asks for it: JavaScript that records the ops, encodes
 * them and hands them to the device. What the device computes meanwhile is not in it.
 */
import { noAdjustments } from "@/sampling/adjustments.ts";
import { greedyParams } from "@/sampling/params.ts";
import { Sampler, type SamplingRow } from "@/sampling/sampler.ts";
import { allowedIds } from "@/sampling/token_mask.ts";
import type { Rig } from "./rig.ts";

const STEPS = 64;
const PAGE_TOKENS = 16;
/** Results under way at a time, as in serving. */
const IN_FLIGHT = 8;

const greedy: SamplingRow = {
  params: greedyParams,
  uniform: 0,
  forcedId: undefined,
  adjustments: noAdjustments,
  candidates: 0,
};

/** Milliseconds per step, over a sequence of `STEPS` tokens. */
export async function dispatchMs({ loaded: { model }, backend, clock }: Rig): Promise<number> {
  const { vocabularySize } = model;
  const shape = { format: "f16", pages: STEPS / PAGE_TOKENS, pageTokens: PAGE_TOKENS } as const;
  const cache = backend.createKvCache({ ...model.kvShape, ...shape });
  const mask = allowedIds({ vocabularySize, usableVocabulary: vocabularySize, forbiddenIds: [] });
  const sampler = new Sampler(backend, mask);
  const pageTable = Int32Array.from({ length: shape.pages }, (_, page) => page);
  const one = (value: number) => Int32Array.of(value);
  const underWay: Promise<unknown>[] = [];
  let busyMs = 0;
  try {
    for (let step = 0; step < STEPS; step++) {
      if (underWay.length === IN_FLIGHT) await underWay.shift();
      const startMs = clock.nowMs();
      const logits = await model.forward({
        ...{ tokenIds: one(step), positions: one(step), slots: one(step), rowSequence: one(0) },
        ...{ pageTable, sequences: 1, splices: [], logitRows: one(0) },
      }, cache);
      const read = sampler.record(logits, [greedy]);
      await backend.flush();
      underWay.push(read());
      await undefined; // reads are sent together when their callers have run
      busyMs += clock.nowMs() - startMs;
    }
    await Promise.all(underWay);
    return busyMs / STEPS;
  } finally {
    await Promise.allSettled(underWay);
    sampler.close();
    backend.free(cache);
  }
}
