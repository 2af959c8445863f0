/** Speculation changes how many steps an answer takes, and nothing else of it. */
import assert from "node:assert/strict";
import { Engine, type EngineOptions } from "@/engine/engine.ts";
import type { EngineEvent, GenerationRequest } from "@/engine/request.ts";
import { seededRandom } from "@/random.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { FakeModel, IMAGE_ID, USABLE_VOCABULARY } from "./fake_model.ts";
import { randomRequest } from "./workload.ts";

const CONTEXT = 160;
const SEEDS = 40;

function openEngine(
  speculation: NonNullable<EngineOptions["speculation"]>,
  options: {
    mistakes?: number;
    draftPages?: number;
    runningSequences?: number;
    failingStep?: number;
  } = {},
) {
  const model = new FakeModel({ contextTokens: CONTEXT });
  const metrics = new Metrics();
  const { mistakes = 0.2, draftPages = 60, runningSequences = 4 } = options;
  const draft = new FakeModel({ contextTokens: CONTEXT, backend: model.backend, mistakes });
  const forward = draft.forward.bind(draft);
  let draftSteps = 0;
  draft.forward = (input, cache) => {
    if (++draftSteps === options.failingStep) throw new Error("the draft model fails");
    return forward(input, cache);
  };
  const engine = new Engine({
    model,
    kv: { format: "f32", pages: 100 },
    usableVocabulary: USABLE_VOCABULARY,
    forbiddenIds: [IMAGE_ID],
    clock: { nowMs: () => 0, epochMs: () => 0 },
    log: silentLogger,
    metrics,
    checksIntegrity: true,
    speculation,
    draft: { model: draft, kv: { format: "f32", pages: draftPages } },
    bounds: { pageTokens: 4, stepTokens: 24, runningSequences, draftTokens: 6 },
  });
  const drafts = (outcome: string) => metrics.value("flotilla_draft_tokens_total", { outcome });
  return { engine, model, drafts };
}

/** Everything a consumer sees, by choice, apart from what became of drafts. */
async function answersOf(engine: Engine, request: GenerationRequest): Promise<EngineEvent[][]> {
  const answers: EngineEvent[][] = Array.from({ length: request.choices }, () => []);
  for await (const event of engine.submit(request)) {
    if (event.type !== "token" && event.type !== "finish") continue;
    const { drafts: _, ...seen } = event as EngineEvent & { drafts?: unknown };
    answers[event.choice]!.push(seen as EngineEvent);
  }
  return answers;
}

function requestsOf(seed: number): GenerationRequest[] {
  const random = seededRandom(seed);
  return Array.from({ length: 5 }, (_, index) => {
    const options = { id: `request-${index}`, contextTokens: CONTEXT, choicesMax: 3 };
    const request = randomRequest(random, options);
    return { ...request, params: { ...request.params, maxTokens: 40, topLogprobs: 3 } };
  });
}

Deno.test("speculation changes no token, log-probability, candidate or finish reason", async () => {
  const engines = (["off", "lookup", "draft", "auto"] as const).map((mode) => openEngine(mode));
  for (let seed = 0; seed < SEEDS; seed++) {
    const requests = requestsOf(seed);
    const [plain, ...others] = await Promise.all(
      engines.map(({ engine }) =>
        Promise.all(requests.map((request) => answersOf(engine, request)))
      ),
    );
    for (const other of others) assert.deepEqual(other, plain, `seed ${seed}`);
  }
  const [off, lookup, draft] = engines;
  assert.equal(off!.drafts("accepted") + off!.drafts("rejected"), 0);
  for (const { drafts, engine } of [lookup!, draft!]) {
    assert.ok(drafts("accepted") > 10 * SEEDS && drafts("rejected") > SEEDS, "both happened");
    assert.ok(engine.stats().steps < 0.95 * off!.engine.stats().steps, "steps were saved");
  }
  for (const { engine, model } of engines) {
    await engine.close();
    assert.equal(model.backend.storages.size, 0, "a storage leaked");
  }
});

/** A text without pictures, which a draft model would not see. */
function textRequest(id: string, seed: number): GenerationRequest {
  const promptIds = Array.from({ length: 30 }, (_, i) => 4 + (seed * 7 + i * i) % 30);
  const params = { ...greedyParams, temperature: 1, seed, maxTokens: 60, ignoreEos: true };
  return { id, promptIds, tiles: [], choices: 2, promptLogprobs: false, params };
}

Deno.test("a draft model that is always right is never contradicted", async () => {
  // Few pages: the model forgets sequences and follows them anew.
  for (const draftPages of [41, 60]) {
    const { engine, drafts } = openEngine("draft", { mistakes: 0, draftPages });
    const requests = [1, 2, 3].map((seed) => textRequest(`request-${seed}`, seed));
    await Promise.all(requests.map((request) => answersOf(engine, request)));
    assert.equal(drafts("rejected"), 0);
    assert.ok(drafts("accepted") > 60, `${drafts("accepted")} accepted`);
  }
});

Deno.test("a draft model that fails is given up, and answers go on", async () => {
  const { engine, drafts } = openEngine("draft", { mistakes: 0, failingStep: 8 });
  const plain = openEngine("off");
  const request = textRequest("request", 5);
  assert.deepEqual(await answersOf(engine, request), await answersOf(plain.engine, request));
  assert.equal(engine.stats().healthy, true);
  const accepted = drafts("accepted");
  assert.ok(accepted > 0 && accepted < 60, `${accepted} accepted before the failure`);
});

Deno.test("a request may be answered without drafts", async () => {
  const { engine, drafts } = openEngine("lookup");
  const request = textRequest("request", 3);
  await answersOf(engine, { ...request, speculates: false });
  assert.equal(drafts("accepted") + drafts("rejected"), 0);
  await answersOf(engine, request);
  assert.ok(drafts("accepted") + drafts("rejected") > 0);
});

Deno.test("a request cancelled while drafts are verified leaves no page behind", async () => {
  const { engine, model } = openEngine("lookup", { runningSequences: 1 });
  model.backend.pace = () => new Promise((resolve) => setTimeout(resolve, 0));
  for (let after = 1; after < 30; after += 4) {
    const controller = new AbortController();
    const request = textRequest("request", after);
    const { signal } = controller;
    let seen = 0;
    await assert.rejects(async () => {
      for await (const event of engine.submit(request, { signal })) {
        if (event.type === "token" && ++seen === after) controller.abort();
      }
    });
    const { kvPagesTotal, kvPagesFree, kvPagesCached } = engine.stats();
    assert.equal(kvPagesFree + kvPagesCached, kvPagesTotal);
    engine.checkIntegrity();
  }
});
