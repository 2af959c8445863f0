/**
 * An engine over the fake model with a disk cache, and clients that check every token. Run as a
 * program (`archive_engine.ts FOLDER SEED`) it serves random requests until it is killed.
 */
import assert from "node:assert/strict";
import { Archive } from "@/engine/archive.ts";
import { DiskStore } from "@/engine/disk_store.ts";
import { Engine } from "@/engine/engine.ts";
import type { GenerationRequest } from "@/engine/request.ts";
import type { SpeculationMode } from "@/engine/speculation.ts";
import { seededRandom } from "@/random.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { AnswerChecker } from "./answer_checker.ts";
import { FakeModel, IMAGE_ID, USABLE_VOCABULARY } from "./fake_model.ts";
import { type Random, randomRequest } from "./workload.ts";

export const CONTEXT = 120;

export async function openArchiveEngine(args: {
  folder: string;
  bytesMax?: number;
  identity?: string;
  pages?: number;
  speculation?: SpeculationMode;
}) {
  const { folder, bytesMax = 1e7, identity = "fake", pages = 80 } = args;
  const clock = { nowMs: () => performance.now(), epochMs: () => Date.now() };
  const store = await DiskStore.open({ folder, bytesMax, clock, log: silentLogger });
  const model = new FakeModel({ contextTokens: CONTEXT });
  const metrics = new Metrics();
  const engine = new Engine({
    model,
    kv: { format: "f32", pages },
    usableVocabulary: USABLE_VOCABULARY,
    forbiddenIds: [IMAGE_ID],
    clock,
    log: silentLogger,
    metrics,
    checksIntegrity: true,
    archive: new Archive(store, identity),
    speculation: args.speculation ?? "auto",
    bounds: { pageTokens: 4, stepTokens: 32, runningSequences: 4 },
  });
  return { engine, model, metrics, store };
}

export function requestOf(random: Random, id: string): GenerationRequest {
  return randomRequest(random, { id, contextTokens: CONTEXT, choicesMax: 2 });
}

/** Asks and compares every token with the answer computed directly; returns cached prompt tokens. */
export async function askChecked(engine: Engine, request: GenerationRequest): Promise<number> {
  const checker = new AnswerChecker(request, { contextTokens: CONTEXT });
  let cached = 0;
  for await (const event of engine.submit(request)) {
    checker.see(event);
    if (event.type === "prefill") cached = event.cached;
  }
  assert.ok(checker.hasEnded);
  return cached;
}

if (import.meta.main) {
  const [folder, seed] = Deno.args;
  const { engine } = await openArchiveEngine({ folder: folder!, bytesMax: 60_000 });
  const random = seededRandom(Number(seed));
  for (let i = 0;; i++) {
    await Promise.all([1, 2, 3].map((n) => askChecked(engine, requestOf(random, `${i}-${n}`))));
    // The parent waits for this line before it kills.
    if (i === 3) await Deno.stdout.write(new TextEncoder().encode("busy\n"));
  }
}
