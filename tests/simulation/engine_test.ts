import assert from "node:assert/strict";
import type { EngineBounds } from "@/engine/bounds.ts";
import { Engine, type EngineOptions } from "@/engine/engine.ts";
import type { EngineEvent, Generation, GenerationRequest, PromptTile } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import { greedyParams, type SamplingParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import {
  FakeModel,
  IMAGE_ID,
  TILE_SIZE,
  TOKENS_PER_TILE,
  USABLE_VOCABULARY,
} from "./fake_model.ts";
import { directAnswer } from "./workload.ts";

const CONTEXT = 200;
const clock = { nowMs: () => 0, epochMs: () => 0 };

function openEngine(
  options: Partial<EngineOptions> & {
    bounds?: Partial<EngineBounds>;
    pages?: number;
    /** A device from which results take a few turns to arrive. */
    programsInFlight?: number;
  } = {},
) {
  const model = new FakeModel({ contextTokens: CONTEXT });
  model.backend.programsInFlight = options.programsInFlight ?? 1;
  if (model.backend.programsInFlight > 1) model.backend.arrival = () => turns(4);
  const metrics = new Metrics();
  const { pages, bounds, programsInFlight: _, ...rest } = options;
  const engine = new Engine({
    model,
    kv: { format: "f32", pages: pages ?? 100 },
    usableVocabulary: USABLE_VOCABULARY,
    forbiddenIds: [IMAGE_ID],
    clock,
    log: silentLogger,
    metrics,
    checksIntegrity: true,
    ...rest,
    bounds: { pageTokens: 4, stepTokens: 16, runningSequences: 8, ...bounds },
  });
  return { engine, model, metrics };
}

function request(
  options: Partial<Omit<GenerationRequest, "params">> & { params?: Partial<SamplingParams> } = {},
): GenerationRequest {
  return {
    id: "request",
    promptIds: [5, 6, 7, 8, 9, 10],
    tiles: [],
    choices: 1,
    promptLogprobs: false,
    ...options,
    params: { ...greedyParams, maxTokens: 8, ignoreEos: true, ...options.params },
  };
}

async function collect(generation: Generation): Promise<EngineEvent[]> {
  return await Array.fromAsync(generation);
}

function tokensOf(events: readonly EngineEvent[], choice = 0): number[] {
  return events.flatMap((event) =>
    event.type === "token" && event.choice === choice ? [event.id] : []
  );
}

function expectedIds(of: GenerationRequest, choice = 0): readonly number[] {
  return directAnswer(of, { choice, contextTokens: CONTEXT }).ids;
}

function hasCode(code: string) {
  return (error: unknown) => error instanceof OperatingError && error.code === code;
}

/** Pages that sequences hold. */
function usedPages(engine: Engine): number {
  const { kvPagesTotal, kvPagesFree, kvPagesCached } = engine.stats();
  return kvPagesTotal - kvPagesFree - kvPagesCached;
}

/** Lets the engine take a few steps. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("Engine answers with prefill, tokens and one finish per choice", async () => {
  const { engine } = openEngine();
  const asked = request({ choices: 3, params: { temperature: 1, seed: 7 } });
  const events = await collect(engine.submit(asked));
  assert.deepEqual(events[0], { type: "prefill", computed: 6, total: 6, cached: 0 });
  for (const choice of [0, 1, 2]) {
    assert.deepEqual(tokensOf(events, choice), expectedIds(asked, choice));
    const ends = events.filter((event) => event.type === "finish" && event.choice === choice);
    assert.deepEqual(ends, [{ type: "finish", choice, reason: "length" }]);
  }
  assert.notDeepEqual(tokensOf(events, 0), tokensOf(events, 1), "choices draw their own numbers");
  assert.equal(usedPages(engine), 0);
});

Deno.test("Engine stops at end tokens, at the context's end and at a finished choice", async () => {
  const { engine } = openEngine();
  const whole = request({ params: { ignoreEos: true, maxTokens: 30 } });
  const stopAt = expectedIds(whole)[4]!;
  const stopped = await collect(engine.submit(request({ params: { stopTokenIds: [stopAt] } })));
  assert.equal(tokensOf(stopped).at(-1), stopAt, "the end token itself is sent");
  assert.deepEqual(stopped.at(-1), { type: "finish", choice: 0, reason: "stop" });

  const long = request({ params: { maxTokens: 10_000 } });
  const full = await collect(engine.submit(long));
  assert.equal(tokensOf(full).length, CONTEXT - long.promptIds.length);
  assert.deepEqual(full.at(-1), { type: "finish", choice: 0, reason: "length" });

  const generation = engine.submit(request({ params: { maxTokens: 100 } }));
  const seen: EngineEvent[] = [];
  for await (const event of generation) {
    seen.push(event);
    if (tokensOf(seen).length === 3) generation.finishChoice(0);
  }
  assert.deepEqual(seen.at(-1), { type: "finish", choice: 0, reason: "stop" });
  assert.ok(tokensOf(seen).length < 10);
  assert.equal(usedPages(engine), 0);
});

Deno.test("Engine takes known prefixes from the cache and says so", async () => {
  const { engine, metrics } = openEngine();
  const asked = request({ promptIds: Array.from({ length: 13 }, (_, i) => 4 + i) });
  const first = await collect(engine.submit(asked));
  const second = await collect(engine.submit(asked));
  assert.deepEqual(tokensOf(second), tokensOf(first));
  assert.deepEqual(second[0], { type: "prefill", computed: 13, total: 13, cached: 12 });
  assert.equal(metrics.value("flotilla_prefix_hit_tokens_total"), 12);
});

function tile(picture: number, start: number): PromptTile {
  const pixels = new Uint8Array(TILE_SIZE * TILE_SIZE * 3).fill(picture);
  return { hash: `picture-${picture}`, pixels, start };
}

function pictureRequest(picture: number, tail: number): GenerationRequest {
  const promptIds = [5, ...Array<number>(TOKENS_PER_TILE).fill(IMAGE_ID), 6, 7, tail];
  return request({ promptIds, tiles: [tile(picture, 1)] });
}

Deno.test("Engine encodes a picture once for all that wait for it, and keeps pictures apart", async () => {
  const { engine, model } = openEngine();
  const asked = [
    pictureRequest(1, 8),
    pictureRequest(1, 9),
    pictureRequest(2, 8),
    pictureRequest(1, 8),
  ];
  const answers = await Promise.all(asked.map((one) => collect(engine.submit(one))));
  for (const [i, answer] of answers.entries()) {
    assert.deepEqual(tokensOf(answer), expectedIds(asked[i]!));
  }
  assert.equal(model.encoded.length, 2);
  assert.notDeepEqual(tokensOf(answers[0]!), tokensOf(answers[2]!), "same ids, other picture");
});

Deno.test("Engine frees a cancelled request's pages at once, also in prefill", async () => {
  const { engine, model } = openEngine();
  const promptIds = Array.from({ length: 150 }, (_, i) => 4 + i % 30);
  const controller = new AbortController();
  model.backend.pace = () => new Promise((resolve) => setTimeout(resolve, 0));
  const generation = engine.submit(request({ promptIds }), { signal: controller.signal });
  const reading = collect(generation);
  while (engine.stats().steps < 2) await turns(1);
  assert.ok(usedPages(engine) > 0);
  controller.abort();
  assert.equal(usedPages(engine), 0);
  await assert.rejects(reading, hasCode("cancelled"));
  const steps = engine.stats().steps;
  await turns(5);
  assert.ok(engine.stats().steps <= steps + 1, "nothing is computed for it any more");
  engine.checkIntegrity();
  const gone = engine.submit(request(), { signal: AbortSignal.abort() });
  await assert.rejects(collect(gone), hasCode("cancelled"));
});

Deno.test("Engine cancels a request whose consumer leaves its loop", async () => {
  const { engine, metrics } = openEngine();
  for await (const event of engine.submit(request({ params: { maxTokens: 100 } }))) {
    if (event.type === "token") break;
  }
  assert.equal(usedPages(engine), 0);
  const cancelled = { outcome: "cancelled" };
  assert.equal(metrics.value("flotilla_requests_finished_total", cancelled), 1);
});

Deno.test("Engine.submit() refuses what can never run, and what the queue cannot hold", async () => {
  const { engine } = openEngine({ bounds: { queueRequests: 2, runningSequences: 1 } });
  const long = Array<number>(CONTEXT).fill(5);
  assert.throws(() => engine.submit(request({ promptIds: long })), (error) => {
    assert.ok(hasCode("context_length_exceeded")(error));
    assert.match((error as Error).message, /200 prompt tokens.*200 tokens/);
    return true;
  });
  const wrong: Partial<GenerationRequest>[] = [
    { promptIds: [] },
    { promptIds: [-1] },
    { promptIds: [1e9] },
    { choices: 0 },
    { tiles: [tile(1, 3)] },
    { tiles: [{ ...tile(1, 0), pixels: new Uint8Array(5) }] },
    { params: { ...greedyParams, logitBias: new Map([[99_999, 1]]) } },
  ];
  for (const part of wrong) {
    assert.throws(() => engine.submit(request(part)), hasCode("invalid_request"));
  }
  const accepted = [1, 2].map(() => collect(engine.submit(request())));
  assert.throws(() => engine.submit(request()), (error) => {
    assert.ok(hasCode("overloaded")(error));
    assert.ok((error as OperatingError).retryAfterSeconds! >= 1);
    return true;
  });
  await Promise.all(accepted);
  await collect(engine.submit(request()));
});

Deno.test("Engine.submit() refuses pictures beyond the memory for waiting pixels", async () => {
  const { engine } = openEngine({ bounds: { pendingPixelBytes: 20 } });
  const first = collect(engine.submit(pictureRequest(1, 8)));
  assert.throws(() => engine.submit(pictureRequest(2, 8)), hasCode("overloaded"));
  const text = collect(engine.submit(request()));
  await Promise.all([first, text]);
  await collect(engine.submit(pictureRequest(2, 8)));
});

Deno.test("Engine fails only the requests of a failed step, and goes on", async () => {
  const { engine, model } = openEngine({ bounds: { runningSequences: 1 } });
  const first = collect(engine.submit(request({ id: "a" })));
  const second = collect(engine.submit(request({ id: "b" })));
  let flushes = 0;
  model.backend.failure = () => ++flushes === 3 ? new Error("kernel trap") : undefined;
  await assert.rejects(first, hasCode("internal"));
  assert.deepEqual(tokensOf(await second), expectedIds(request()));
  assert.equal(engine.stats().healthy, true);
  assert.equal(usedPages(engine), 0);
});

Deno.test("Engine refuses everything once its backend is lost", async () => {
  const { engine, model } = openEngine();
  model.backend.failure = () => new Error("worker died");
  for (let i = 0; i < 3; i++) {
    await assert.rejects(collect(engine.submit(request())), OperatingError);
  }
  assert.throws(() => engine.submit(request()), hasCode("unavailable"));
  assert.equal(engine.stats().healthy, false);
});

Deno.test("Engine pauses a request that nobody reads, serves others, and resumes it", async () => {
  const { engine } = openEngine({ bounds: { unreadEvents: 10, runningSequences: 1 } });
  const asked = request({ id: "unread", params: { maxTokens: 120 } });
  const unread = engine.submit(asked);
  await turns(3);
  const stepsWhenPaused = engine.stats().steps;
  await turns(3);
  assert.equal(engine.stats().steps, stepsWhenPaused, "nothing is computed that is not read");
  assert.ok(stepsWhenPaused < 20);
  const other = request({ id: "other", promptIds: [9, 8, 7] });
  assert.deepEqual(tokensOf(await collect(engine.submit(other))), expectedIds(other));
  assert.deepEqual(tokensOf(await collect(unread)), expectedIds(asked));
});

Deno.test("Engine ends an answer that takes too long, and refuses a prompt that does", async () => {
  const { engine, model } = openEngine({ bounds: { generationMs: 60, stepTokens: 8 } });
  const slow = (ms: number) => () => new Promise<void>((resolve) => setTimeout(resolve, ms));
  model.backend.pace = slow(5);
  const asked = request({ choices: 2, params: { maxTokens: 150 } });
  const events = await collect(engine.submit(asked));
  for (const choice of [0, 1]) {
    const ids = tokensOf(events, choice);
    assert.ok(ids.length > 0 && ids.length < 100);
    assert.deepEqual(ids, expectedIds(asked, choice).slice(0, ids.length));
    const ends = events.filter((event) => event.type === "finish" && event.choice === choice);
    assert.deepEqual(ends, [{ type: "finish", choice, reason: "length" }]);
  }
  model.backend.pace = slow(30);
  const promptIds = Array.from({ length: 150 }, (_, i) => 4 + i % 30);
  await assert.rejects(collect(engine.submit(request({ promptIds }))), hasCode("unavailable"));
  model.backend.pace = () => Promise.resolve();
  assert.equal(tokensOf(await collect(engine.submit(request()))).length, 8);
  assert.equal(usedPages(engine), 0);
  await engine.close();
});

Deno.test("Engine.drain() ends what runs and refuses the rest; close() ends all", async () => {
  const { engine, model } = openEngine();
  const running = collect(engine.submit(request()));
  const drained = engine.drain();
  assert.throws(() => engine.submit(request()), hasCode("unavailable"));
  await drained;
  assert.deepEqual(tokensOf(await running), expectedIds(request()));
  await engine.close();
  assert.equal(model.backend.storages.size, 0);

  const other = openEngine();
  const cut = collect(other.engine.submit(request({ params: { maxTokens: 150 } })));
  const closing = other.engine.close();
  await assert.rejects(cut, hasCode("unavailable"));
  await closing;
  assert.equal(other.model.backend.storages.size, 0);
});

Deno.test("Engine scores prompts in bounded slices, with or without an answer", async () => {
  const { engine } = openEngine({ bounds: { stepScores: 3 } });
  const promptIds = Array.from({ length: 11 }, (_, i) => 4 + i);
  const params = { maxTokens: 0, topLogprobs: 2 };
  const asked = request({ promptIds, promptLogprobs: true, params });
  await collect(engine.submit(request({ promptIds }))); // cached pages must not hide scores
  const events = await collect(engine.submit(asked));
  const scores = events.find((event) => event.type === "prompt_logprobs");
  assert.ok(scores?.type === "prompt_logprobs");
  assert.deepEqual(scores.entries.map((entry) => entry?.chosen.id), [
    undefined,
    ...promptIds.slice(1),
  ]);
  assert.ok(scores.entries.slice(1).every((entry) => entry?.top.length === 2));
  assert.deepEqual(events.at(-1), { type: "finish", choice: 0, reason: "length" });
  assert.equal(tokensOf(events).length, 0);
});

Deno.test("Engine gives the same events with one step in flight and with many", async () => {
  const asked = [
    request({ params: { maxTokens: 40 } }),
    request({
      promptIds: [9, 8, 7],
      choices: 2,
      params: { maxTokens: 25, temperature: 1, seed: 3 },
    }),
    request({ params: { maxTokens: 60, minTokens: 20, ignoreEos: false, temperature: 0.8 } }),
    request({ params: { maxTokens: 30, frequencyPenalty: 0.5 } }),
    request({ params: { maxTokens: 10_000, topLogprobs: 3 } }),
  ];
  const answers = async (programsInFlight: number) => {
    // Drafts are told of in events, and how many there are is a matter of speed.
    const { engine, model } = openEngine({ programsInFlight, speculation: "off" });
    const together = await Promise.all(asked.map((each) => collect(engine.submit(each))));
    const alone: EngineEvent[][] = [];
    for (const each of asked) alone.push(await collect(engine.submit(each)));
    assert.equal(usedPages(engine), 0);
    await engine.close();
    return { events: [...together, ...alone], mostInFlight: model.backend.mostInFlight };
  };
  const [one, many] = [await answers(1), await answers(6)];
  assert.deepEqual(
    many.events.map((events) => tokensOf(events)),
    [...asked, ...asked].map((each) => [
      ...expectedIds(each),
    ]),
  );
  const withoutPrefill = ({ events }: typeof one) =>
    events.map((list) => list.filter(({ type }) => type !== "prefill"));
  assert.deepEqual(withoutPrefill(many), withoutPrefill(one));
  assert.equal(one.mostInFlight, 1);
  assert.equal(many.mostInFlight, 6, "steps really were on their way together");
});

Deno.test("Engine with steps in flight drops what lies behind a stop, a cut and a cancel", async () => {
  const { engine } = openEngine({ programsInFlight: 6 });
  const long = request({ params: { maxTokens: 120 } });
  const stopAt = expectedIds(long)[17]!;
  const end = expectedIds(long).indexOf(stopAt);
  const stopped = await collect(
    engine.submit(request({ params: { maxTokens: 120, stopTokenIds: [stopAt] } })),
  );
  assert.deepEqual(tokensOf(stopped), expectedIds(long).slice(0, end + 1));
  assert.deepEqual(stopped.at(-1), { type: "finish", choice: 0, reason: "stop" });

  const cut = engine.submit(long);
  const seen: EngineEvent[] = [];
  for await (const event of cut) {
    seen.push(event);
    if (tokensOf(seen).length === 20) cut.finishChoice(0);
  }
  assert.deepEqual(tokensOf(seen), expectedIds(long).slice(0, tokensOf(seen).length));
  assert.ok(tokensOf(seen).length < 40, `${tokensOf(seen).length} tokens`);
  assert.deepEqual(seen.at(-1), { type: "finish", choice: 0, reason: "stop" });

  const controller = new AbortController();
  const left = engine.submit(long, { signal: controller.signal });
  await assert.rejects(async () => {
    for await (const event of left) if (event.type === "token") controller.abort();
  }, hasCode("cancelled"));
  // Whoever comes while steps are in flight is served soon, and nothing is left behind.
  const first = engine.submit(long);
  const events: EngineEvent[] = [];
  let second: Promise<EngineEvent[]> | undefined;
  for await (const event of first) {
    events.push(event);
    if (tokensOf(events).length === 30) second ??= collect(engine.submit(request()));
  }
  assert.deepEqual(tokensOf(events), expectedIds(long));
  assert.deepEqual(tokensOf(await second!), expectedIds(request()));
  assert.equal(usedPages(engine), 0);
  await engine.close();
});

Deno.test("Engine fails the requests of a step that is lost in flight, and goes on", async () => {
  const { engine, model } = openEngine({ programsInFlight: 4 });
  const long = request({ params: { maxTokens: 100 } });
  let flushes = 0;
  model.backend.failure = () => flushes++ === 20 ? new Error("lost") : undefined;
  await assert.rejects(collect(engine.submit(long)), hasCode("internal"));
  assert.deepEqual(tokensOf(await collect(engine.submit(long))), expectedIds(long));
  assert.equal(usedPages(engine), 0);
  await engine.close();
});
