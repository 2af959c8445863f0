import assert from "node:assert/strict";
import { Engine } from "@/engine/engine.ts";
import { OperatingError } from "@/errors.ts";
import { seededRandom } from "@/random.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { AnswerChecker } from "./answer_checker.ts";
import { FakeBackend, FakeModel, IMAGE_ID, USABLE_VOCABULARY } from "./fake_model.ts";
import { between, pick, type Random, randomRequest } from "./workload.ts";

const SEEDS = 60;

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function turns(random: Random, most: number): Promise<void> {
  for (let left = between(random, 0, most); left > 0; left--) await turn();
}

function openEngine(random: Random) {
  const contextTokens = between(random, 20, 80);
  const pageTokens = between(random, 1, 8);
  const backend = new FakeBackend();
  backend.pace = () => random() < 0.5 ? turn() : Promise.resolve();
  backend.programsInFlight = pick(random, [1, 2, 5]);
  backend.arrival = () => random() < 0.5 ? turns(random, 4) : Promise.resolve();
  const model = new FakeModel({ contextTokens, backend });
  const metrics = new Metrics();
  const stepTokens = between(random, 4, 32);
  // Every reading of the clock takes time, so that drafts seem to pay now and then.
  const ticks = seededRandom(contextTokens);
  let nowMs = 0;
  const engine = new Engine({
    model,
    kv: { format: "f32", pages: Math.ceil(contextTokens / pageTokens) * between(random, 1, 3) },
    usableVocabulary: USABLE_VOCABULARY,
    forbiddenIds: [IMAGE_ID],
    visionCacheBytes: 100,
    clock: { nowMs: () => nowMs += ticks(), epochMs: () => 0 },
    log: silentLogger,
    metrics,
    bounds: {
      pageTokens,
      stepTokens,
      stepTiles: 2,
      runningSequences: between(random, 1, 4),
      queueRequests: between(random, 1, 6),
      unreadEvents: between(random, 2, 20),
    },
    checksIntegrity: true,
    speculation: pick(random, ["off", "lookup", "draft", "auto"] as const),
    ...(random() < 0.5 && {
      draft: {
        model: new FakeModel({
          contextTokens: contextTokens - between(random, 0, 10),
          backend,
          mistakes: random() / 2,
        }),
        kv: { format: "f32", pages: Math.ceil(contextTokens / pageTokens) + 1 },
      },
    }),
  });
  return { engine, model, metrics };
}

type Outcome = "finished" | "cancelled" | "refused";

/** One client: asks, reads at its own speed, perhaps leaves or stops a choice. */
async function runClient(engine: Engine, random: Random, id: string): Promise<Outcome> {
  const { contextTokens } = engine;
  const request = randomRequest(random, { id, contextTokens, choicesMax: 3 });
  const checker = new AnswerChecker(request, { contextTokens });
  const mood = pick(random, ["patient", "patient", "slow", "aborts", "leaves", "cuts"]);
  const patience = between(random, 0, 15);
  const controller = new AbortController();
  await turns(random, 30);
  try {
    const generation = engine.submit(request, { signal: controller.signal });
    let seen = 0;
    for await (const event of generation) {
      checker.see(event);
      seen += 1;
      if (mood === "slow") await turns(random, 4);
      if (seen !== patience) continue;
      if (mood === "aborts") controller.abort();
      if (mood === "leaves") return "cancelled";
      if (mood !== "cuts") continue;
      const choice = between(random, 0, request.choices - 1);
      if (checker.choices[choice]!.reason === undefined) checker.choices[choice]!.cut = true;
      generation.finishChoice(choice);
    }
  } catch (error) {
    if (!(error instanceof OperatingError)) throw error;
    if (error.code === "overloaded") return "refused";
    assert.equal(error.code, "cancelled");
    assert.equal(mood, "aborts");
    return "cancelled";
  }
  assert.ok(checker.hasEnded, "the iteration ends after every choice has finished");
  return "finished";
}

async function simulate(seed: number): Promise<{ outcomes: Outcome[]; accepted: number }> {
  const random = seededRandom(seed);
  const { engine, model, metrics } = openEngine(random);
  const clients = Array.from({ length: between(random, 1, 14) }, (_, i) => {
    return runClient(engine, seededRandom(seed * 1000 + i), `client-${i}`);
  });
  const outcomes = await Promise.all(clients);
  await engine.drain();
  engine.checkIntegrity();
  const stats = engine.stats();
  assert.equal(stats.kvPagesFree + stats.kvPagesCached, stats.kvPagesTotal, "a page leaked");
  assert.equal(stats.healthy, true);
  const counted = (outcome: Outcome) =>
    metrics.value("flotilla_requests_finished_total", { outcome });
  const happened = (outcome: Outcome) => outcomes.filter((other) => other === outcome).length;
  assert.equal(counted("refused"), happened("refused"));
  assert.equal(counted("finished") + counted("cancelled"), outcomes.length - happened("refused"));
  // Who leaves may not have seen that everything was made already.
  assert.ok(counted("finished") >= happened("finished"));
  await engine.close();
  assert.equal(model.backend.storages.size, 0, "a storage leaked");
  const accepted = metrics.value("flotilla_draft_tokens_total", { outcome: "accepted" });
  return { outcomes, accepted };
}

Deno.test("Engine serves clients of every temper, and leaks nothing", async () => {
  const outcomes: Outcome[] = [];
  let accepted = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    try {
      const run = await simulate(seed);
      outcomes.push(...run.outcomes);
      accepted += run.accepted;
    } catch (cause) {
      throw new Error(`Simulation of seed ${seed} failed`, { cause });
    }
  }
  for (const outcome of ["finished", "cancelled", "refused"] as const) {
    assert.ok(outcomes.filter((other) => other === outcome).length > 10, `${outcome} is rare`);
  }
  assert.ok(accepted > SEEDS, "drafts came true");
});
