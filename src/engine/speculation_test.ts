import assert from "node:assert/strict";
import { greedyParams } from "@/sampling/params.ts";
import { defaultEngineBounds } from "./bounds.ts";
import type { Plan } from "./plan.ts";
import { Scheduler } from "./scheduler.ts";
import type { SpeculationMode } from "./speculation.ts";

const bounds = { ...defaultEngineBounds, pageTokens: 4, stepTokens: 32, draftTokens: 4 };

/** A scheduler that has computed the prompt 5 6 7 8 5 6 7 8 … and drawn a 5. */
function openScheduler(mode: SpeculationMode, options: { pages?: number; others?: number } = {}) {
  const scheduler = new Scheduler({
    bounds,
    pages: options.pages ?? 40,
    tileSlots: 4,
    contextTokens: 80,
    tokensPerTile: 4,
    endTokenIds: [1],
    speculation: mode,
  });
  const promptIds = Array.from({ length: 16 }, (_, i) => 5 + i % 4);
  const params = { ...greedyParams, maxTokens: 30 };
  scheduler.add({ id: "a", promptIds, tiles: [], params, choices: 1, promptLogprobs: false });
  draw(scheduler, scheduler.schedule(), [5]);
  return scheduler;
}

/** Gives the step's draws these ids. */
function draw(scheduler: Scheduler, plan: Plan, ids: readonly number[]) {
  assert.equal(plan.logitRows.length, ids.length);
  const outputs = scheduler.apply(plan, {
    rows: ids.map((id) => ({ id, logprob: -1, candidates: [] })),
  });
  scheduler.checkIntegrity();
  return outputs.flatMap((output) => "event" in output ? [output.event] : []);
}

const cheapRows = { rows: 32, tiles: 1, cost: { ms: (rows: number) => 10 + rows / 100 } };
const dearRows = { rows: 32, tiles: 1, cost: { ms: (rows: number) => 10 * rows } };

Deno.test("Speculation drafts what followed before, and tells what came of it", () => {
  const scheduler = openScheduler("lookup");
  const plan = scheduler.schedule();
  assert.deepEqual(plan.chunks[0]!.tokenIds, [5, 6, 7, 8, 5]);
  assert.equal(plan.chunks[0]!.draftCount, 4);
  const events = draw(scheduler, plan, [6, 7, 9, 8, 5]);
  assert.deepEqual(events.map((event) => event.type === "token" && [event.id, event.drafts]), [
    [6, { accepted: 1, rejected: 0 }],
    [7, { accepted: 1, rejected: 0 }],
    [9, { accepted: 0, rejected: 2 }],
  ]);
  assert.equal(scheduler.counts.draftsAccepted, 2);
  assert.equal(scheduler.counts.draftsRejected, 2);
  const next = scheduler.schedule();
  assert.equal(next.chunks[0]!.start, 19, "the rejected drafts' slots are written again");
  assert.equal(next.chunks[0]!.tokenIds[0], 9);
});

Deno.test("Speculation stops at an end token among the drafts and at the answer's length", () => {
  const scheduler = openScheduler("draft");
  const ended = scheduler.schedule(cheapRows, new Map([[0, [6, 1, 7, 8]]]));
  assert.deepEqual(ended.chunks[0]!.tokenIds, [5, 6, 1], "nothing follows an end token");
  const events = draw(scheduler, ended, [6, 1, 3]);
  assert.deepEqual(events.at(-1), { type: "finish", choice: 0, reason: "stop" });
  assert.ok(scheduler.isIdle);
});

Deno.test("Speculation takes no page from others and drafts into the slots that are there", () => {
  const scheduler = openScheduler("lookup", { pages: 20 });
  const promptIds = Array.from({ length: 56 }, (_, i) => 100 + i);
  const params = { ...greedyParams, maxTokens: 3 };
  scheduler.add({ id: "b", promptIds, tiles: [], params, choices: 1, promptLogprobs: false });
  const plan = scheduler.schedule();
  const [first] = plan.chunks;
  assert.equal(plan.chunks.length, 2, "the other one runs");
  assert.ok(first!.draftCount <= first!.pages.length * 4 - 17);
  assert.equal(scheduler.counts.preemptions, 0);
});

Deno.test("auto speculates where rows are cheap, not where they are dear, and asks again later", () => {
  const cheap = openScheduler("auto");
  assert.equal(cheap.schedule(cheapRows).chunks[0]!.draftCount, 4);
  const dear = openScheduler("auto");
  const drafted: number[] = [];
  for (let i = 0; i < 20; i++) {
    const plan = dear.schedule(dearRows);
    const { draftCount } = plan.chunks[0]!;
    drafted.push(draftCount);
    const next = 6 + i % 3;
    draw(dear, plan, Array.from({ length: 1 + draftCount }, () => next));
  }
  assert.equal(drafted.slice(0, 10).reduce((sum, count) => sum + count), 0);
  assert.ok(drafted.some((count) => count > 0), "a trial after many declined offers");
});
