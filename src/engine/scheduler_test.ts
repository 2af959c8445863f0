import assert from "node:assert/strict";
import { greedyParams, type SamplingParams } from "@/sampling/params.ts";
import { defaultEngineBounds, type EngineBounds } from "./bounds.ts";
import type { Plan, StepResult } from "./plan.ts";
import type { GenerationRequest, PromptTile } from "./request.ts";
import { Scheduler, type SchedulerOutput } from "./scheduler.ts";

const TOKENS_PER_TILE = 6;

function openScheduler(
  options: Partial<EngineBounds> & { pages?: number; tileSlots?: number; context?: number } = {},
): Scheduler {
  const { pages, tileSlots, context, ...bounds } = options;
  return new Scheduler({
    bounds: {
      ...defaultEngineBounds,
      pageTokens: 4,
      stepTokens: 16,
      runningSequences: 8,
      ...bounds,
    },
    pages: pages ?? 64,
    tileSlots: tileSlots ?? 8,
    contextTokens: context ?? 100,
    tokensPerTile: TOKENS_PER_TILE,
    endTokenIds: [1],
  });
}

/** A request of `length` prompt tokens; another `name` shares no tokens with it. */
function request(
  name: string,
  length: number,
  options: { params?: Partial<SamplingParams>; tiles?: PromptTile[]; choices?: number } = {},
): GenerationRequest {
  return {
    id: name,
    promptIds: Array.from({ length }, (_, i) => name.charCodeAt(0) * 1000 + i),
    tiles: options.tiles ?? [],
    params: { ...greedyParams, maxTokens: 50, ...options.params },
    choices: options.choices ?? 1,
    promptLogprobs: false,
  };
}

/** Every draw gives `id`. */
function resultOf(plan: Plan, id = 7): StepResult {
  return { rows: plan.logitRows.map(() => ({ id, logprob: -1, candidates: [] })) };
}

/** Runs one step; returns its plan and outputs. */
function step(scheduler: Scheduler): { plan: Plan; outputs: SchedulerOutput[] } {
  const plan = scheduler.schedule();
  const outputs = plan.rowCount > 0 ? scheduler.apply(plan, resultOf(plan)) : [];
  scheduler.checkIntegrity();
  return { plan, outputs };
}

/** [sequenceId, start, rows] of every chunk. */
function chunksOf(plan: Plan): number[][] {
  return plan.chunks.map(({ sequenceId, start, tokenIds }) => [sequenceId, start, tokenIds.length]);
}

Deno.test("Scheduler serves decoding first and fills the step with prompt chunks by age", () => {
  const scheduler = openScheduler();
  scheduler.add(request("a", 3));
  scheduler.add(request("b", 20));
  scheduler.add(request("c", 10));
  assert.deepEqual(chunksOf(step(scheduler).plan), [[0, 0, 3], [1, 0, 13]]);
  assert.deepEqual(chunksOf(step(scheduler).plan), [[0, 3, 1], [1, 13, 7], [2, 0, 8]]);
  assert.deepEqual(chunksOf(step(scheduler).plan), [[0, 4, 1], [1, 20, 1], [2, 8, 2]]);
});

Deno.test("Scheduler serves a short prompt behind a long one within a bounded time", () => {
  const scheduler = openScheduler({ starvedSteps: 3, context: 1000, pages: 300 });
  scheduler.add(request("a", 900));
  scheduler.add(request("b", 4));
  let steps = 1;
  while (!step(scheduler).plan.chunks.some((chunk) => chunk.sequenceId === 1)) steps += 1;
  assert.equal(steps, 4, "three steps without rows, then it is served first");
});

Deno.test("Scheduler bounds the attention work of a step but always goes on", () => {
  const scheduler = openScheduler({ stepAttention: 30, context: 100 });
  scheduler.add(request("a", 40));
  let rows = 0;
  while (rows < 40) {
    const [chunk] = step(scheduler).plan.chunks;
    const { start, tokenIds } = chunk!;
    rows = start + tokenIds.length;
    const work = (rows * (rows + 1) - start * (start + 1)) / 2;
    assert.ok(work <= 30 || tokenIds.length === 1, `${work} pairs`);
  }
});

Deno.test("Scheduler lets younger requests overtake a blocked one a bounded number of times", () => {
  const scheduler = openScheduler({ pages: 10, context: 40, overtakes: 2, stepTokens: 64 });
  scheduler.add(request("a", 20, { params: { maxTokens: 4 } })); // 5 of 10 pages
  const big = scheduler.add(request("b", 35, { params: { maxTokens: 4 } })); // needs 9 pages
  for (const name of "cdefgh") scheduler.add(request(name, 2, { params: { maxTokens: 30 } }));
  step(scheduler);
  assert.deepEqual(scheduler.counts.runningSequences, 3, "two have overtaken");
  let steps = 0;
  while (!big.promptComputed) {
    step(scheduler);
    assert.ok(++steps < 10, "it is forced in when the older one has ended");
  }
  assert.ok(scheduler.counts.preemptions > 0, "at the cost of younger ones");
});

Deno.test("Scheduler preempts the youngest when pages run out and computes it again later", () => {
  const scheduler = openScheduler({ pages: 6, context: 24 });
  scheduler.add(request("a", 7, { params: { maxTokens: 12 } }));
  scheduler.add(request("b", 7, { params: { maxTokens: 12 } }));
  const tokens: number[] = [];
  let recomputed: Plan["chunks"][number] | undefined;
  for (let i = 0; i < 40; i++) {
    const { plan, outputs } = step(scheduler);
    if (scheduler.counts.preemptions > 0) {
      recomputed ??= plan.chunks.find((chunk) => chunk.sequenceId === 1 && !!chunk.tokenIds[1]);
    }
    for (const { state, ...output } of outputs) {
      if ("event" in output && output.event.type === "token" && state.arrival === 1) {
        tokens.push(output.event.id);
      }
    }
  }
  assert.ok(scheduler.counts.preemptions > 0);
  assert.ok(recomputed?.tokenIds.includes(7), "its own tokens are part of what is recomputed");
  assert.equal(tokens.length, 12, "every token is told once");
  assert.ok(scheduler.isIdle);
});

function tileAt(start: number, hash: string): PromptTile {
  return { start, hash, pixels: new Uint8Array() };
}

Deno.test("Scheduler stops a chunk before a tile that this step cannot encode", () => {
  const scheduler = openScheduler({ stepTiles: 1, stepTokens: 32 });
  scheduler.add(request("a", 20, { tiles: [tileAt(2, "a"), tileAt(8, "b")] }));
  const { plan } = step(scheduler);
  assert.deepEqual(plan.tiles.map((tile) => tile.hash), ["a"]);
  assert.deepEqual(chunksOf(plan), [[0, 0, 8]]);
  assert.deepEqual(plan.splices, [{ slot: 0, sourceRow: 0, stepRow: 2, rowCount: 6 }]);
  const next = step(scheduler).plan;
  assert.deepEqual(next.tiles.map((tile) => tile.hash), ["b"]);
  assert.deepEqual(next.splices, [{ slot: 1, sourceRow: 0, stepRow: 0, rowCount: 6 }]);
});

Deno.test("Scheduler encodes a tile once in a prompt, in a step and later", () => {
  const scheduler = openScheduler({ stepTokens: 60, stepTiles: 8 });
  const params = { maxTokens: 1 };
  // A page whose first and third tile are blank, and a second prompt in the same step.
  const page = [tileAt(1, "blank"), tileAt(7, "text"), tileAt(13, "blank")];
  scheduler.add(request("a", 20, { params, tiles: page }));
  scheduler.add(request("b", 20, { params, tiles: [tileAt(2, "blank"), tileAt(8, "other")] }));
  const { plan } = step(scheduler);
  assert.deepEqual(plan.tiles.map((tile) => tile.hash), ["blank", "text", "other"]);
  const slots = plan.splices.map((splice) => splice.slot);
  assert.deepEqual([slots[0], slots[3]], [slots[2], slots[2]], "blanks share a slot");
  // Both are done; what they encoded is still there.
  scheduler.add(request("c", 20, { params, tiles: [tileAt(3, "text"), tileAt(9, "blank")] }));
  assert.deepEqual(step(scheduler).plan.tiles, []);
  const { visionCacheHits, visionCacheMisses } = scheduler.counts;
  assert.deepEqual({ visionCacheHits, visionCacheMisses }, {
    visionCacheHits: 4,
    visionCacheMisses: 3,
  });
});

Deno.test("Scheduler splits a tile between chunks and encodes equal tiles once", () => {
  const scheduler = openScheduler({ stepTokens: 8, stepTiles: 1, tileSlots: 1 });
  scheduler.add(request("a", 10, { tiles: [tileAt(4, "a")] }));
  scheduler.add(request("b", 10, { tiles: [tileAt(4, "a")] }));
  const plans = Array.from({ length: 4 }, () => step(scheduler).plan);
  assert.deepEqual(plans.map((plan) => plan.tiles.length), [1, 0, 0, 0]);
  assert.deepEqual(plans[1]!.splices[0], { slot: 0, sourceRow: 4, stepRow: 0, rowCount: 2 });
});

Deno.test("Scheduler computes a prompt once for all its choices", () => {
  const scheduler = openScheduler();
  scheduler.add(request("a", 14, { choices: 3 }));
  assert.deepEqual(chunksOf(step(scheduler).plan), [[0, 0, 14]]);
  const shared = step(scheduler).plan;
  assert.deepEqual(chunksOf(shared), [[0, 14, 1], [1, 12, 2], [2, 12, 2]]);
  const [first, second] = shared.chunks;
  assert.deepEqual(first!.pages.slice(0, 3), second!.pages.slice(0, 3), "full pages are shared");
  assert.notEqual(first!.pages[3], second!.pages[3], "the last one is each one's own");
});

Deno.test("Scheduler fails only the request whose logits gave no token", () => {
  const scheduler = openScheduler();
  const states = [
    scheduler.add(request("a", 3)),
    scheduler.add(request("b", 3)),
    scheduler.add(request("c", 3)),
  ];
  const plan = scheduler.schedule();
  const rows = [
    { id: -1, logprob: -Infinity, candidates: [] },
    { id: 5, logprob: -1, candidates: [] },
    { id: 5, logprob: NaN, candidates: [] },
  ];
  const outputs = scheduler.apply(plan, { rows });
  const failed = outputs.filter((output) => "error" in output).map((output) => output.state);
  assert.deepEqual(failed, [states[0], states[2]]);
  assert.equal(scheduler.counts.runningSequences, 1);
  scheduler.checkIntegrity();
});

Deno.test("Scheduler ignores the results of requests that left while the step ran", () => {
  const scheduler = openScheduler();
  const state = scheduler.add(request("a", 3));
  const plan = scheduler.schedule();
  scheduler.abort(state);
  assert.equal(scheduler.counts.kvPagesFree, scheduler.counts.kvPagesTotal);
  assert.deepEqual(scheduler.apply(plan, resultOf(plan)), []);
  assert.equal(scheduler.schedule().rowCount, 0);
});
