/**
 * Drives scheduler and runner with random requests, aborts, pauses and step failures, under random
 * bounds and kinds of speculation, and checks every step from outside. One seed is one run.
 */
import assert from "node:assert/strict";
import { defaultEngineBounds, type EngineBounds } from "@/engine/bounds.ts";
import type { Plan } from "@/engine/plan.ts";
import { Runner } from "@/engine/runner.ts";
import { Scheduler, type SchedulerCounts } from "@/engine/scheduler.ts";
import type { RequestState } from "@/engine/sequence.ts";
import type { SpeculationMode } from "@/engine/speculation.ts";
import { seededRandom } from "@/random.ts";
import { allowedIds } from "@/sampling/token_mask.ts";
import { AnswerChecker } from "./answer_checker.ts";
import {
  END_IDS,
  FakeModel,
  IMAGE_ID,
  TOKENS_PER_TILE,
  USABLE_VOCABULARY,
  VOCABULARY,
} from "./fake_model.ts";
import { between, pick, type Random, randomRequest } from "./workload.ts";

/** Steps without end mean that somebody waits for ever. */
const STEPS_MAX = 5000;

const ALLOWED = allowedIds({
  vocabularySize: VOCABULARY,
  usableVocabulary: USABLE_VOCABULARY,
  forbiddenIds: [IMAGE_ID],
});

interface Setup {
  readonly bounds: EngineBounds;
  readonly contextTokens: number;
  readonly pages: number;
  readonly tileSlots: number;
  readonly requests: number;
  /** Chances per step. */
  readonly arrival: number;
  readonly abort: number;
  readonly cut: number;
  readonly pause: number;
  readonly failure: number;
  readonly speculation: SpeculationMode;
  /** Chance that a drafted token of the draft model is right. */
  readonly insight: number;
  /** Cost of a row, in units of the cost of a step without rows. */
  readonly rowCost: number;
}

function randomSetup(random: Random): Setup {
  const pageTokens = between(random, 1, 8);
  const contextTokens = between(random, 12, 72);
  const pagesMin = Math.ceil(contextTokens / pageTokens);
  const stepTokens = between(random, 2, 40);
  const stepTiles = between(random, 1, 3);
  const stepScores = between(random, 1, 8);
  const runningSequences = between(random, 1, Math.min(stepTokens, 8));
  return {
    bounds: {
      ...defaultEngineBounds,
      stepTokens,
      stepTiles,
      stepScores,
      stepLogits: stepScores + runningSequences + between(random, 0, 12),
      draftTokens: between(random, 1, 6),
      stepAttention: pick(random, [20, 200, 5000]),
      runningSequences,
      starvedSteps: between(random, 1, 6),
      overtakes: between(random, 1, 4),
      pageTokens,
    },
    contextTokens,
    pages: pagesMin + between(random, 0, 2 * pagesMin),
    tileSlots: stepTiles + between(random, 0, 4),
    requests: between(random, 1, 14),
    arrival: pick(random, [0.1, 0.5, 1]),
    abort: pick(random, [0, 0, 0.05]),
    cut: pick(random, [0, 0, 0.05]),
    pause: pick(random, [0, 0, 0.1]),
    failure: pick(random, [0, 0, 0, 0.03]),
    speculation: pick(random, ["off", "lookup", "draft", "auto"] as const),
    insight: pick(random, [0, 0.5, 0.9, 1]),
    rowCost: pick(random, [0, 0.05, 0.5, 1]),
  };
}

export class SchedulerSimulation {
  readonly #random: Random;
  readonly #setup: Setup;
  readonly #model: FakeModel;
  readonly #scheduler: Scheduler;
  readonly #runner: Runner;
  readonly #live = new Map<RequestState, AnswerChecker>();
  /** What each slot of the vision cache holds, seen from outside. */
  readonly #slots = new Map<number, string>();
  #arrived = 0;
  #finished = 0;
  #endedEarly = 0;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    const setup = this.#setup = randomSetup(this.#random);
    const { bounds, pages, contextTokens, tileSlots } = setup;
    this.#model = new FakeModel({ contextTokens });
    this.#scheduler = new Scheduler({
      bounds,
      pages,
      tileSlots,
      contextTokens,
      tokensPerTile: TOKENS_PER_TILE,
      endTokenIds: END_IDS,
      speculation: setup.speculation,
      allowed: ALLOWED,
    });
    this.#runner = new Runner({
      model: this.#model,
      kv: { format: "f32", pages, pageTokens: bounds.pageTokens },
      allowed: ALLOWED,
    });
  }

  /** Runs until every request has ended; returns what happened. */
  async run(): Promise<SchedulerCounts & { finished: number; endedEarly: number }> {
    for (let step = 0; this.#arrived < this.#setup.requests || this.#live.size > 0; step++) {
      assert.ok(step < STEPS_MAX, "somebody waits for ever");
      this.#disturb();
      await this.#step();
      this.#scheduler.checkIntegrity();
    }
    const counts = this.#scheduler.counts;
    assert.equal(counts.runningSequences + counts.waitingSequences, 0);
    assert.equal(counts.kvPagesFree + counts.kvPagesCached, counts.kvPagesTotal, "a page leaked");
    this.#runner.close();
    assert.equal(this.#model.backend.storages.size, 0, "a storage leaked");
    return { ...counts, finished: this.#finished, endedEarly: this.#endedEarly };
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  /** What the world does between two steps. */
  #disturb(): void {
    const setup = this.#setup;
    if (this.#arrived < setup.requests && this.#chance(setup.arrival)) this.#submit();
    const state = pick(this.#random, [...this.#live.keys()]);
    if (state === undefined) return;
    if (this.#chance(setup.abort)) {
      this.#scheduler.abort(state);
      this.#forget(state);
    } else if (this.#chance(setup.cut)) {
      this.#cutChoice(state);
    } else if (this.#chance(setup.pause)) {
      this.#scheduler.setPaused(state, !state.paused);
    }
  }

  #submit(): void {
    const { contextTokens, bounds } = this.#setup;
    const choicesMax = Math.min(4, bounds.runningSequences + 2);
    const id = `request-${this.#arrived++}`;
    const request = randomRequest(this.#random, { id, contextTokens, choicesMax });
    const state = this.#scheduler.add(request);
    this.#live.set(state, new AnswerChecker(request, { contextTokens }));
  }

  #cutChoice(state: RequestState): void {
    const checker = this.#live.get(state)!;
    const choice = between(this.#random, 0, state.request.choices - 1);
    const hadEnded = checker.choices[choice]!.reason !== undefined;
    const event = this.#scheduler.finishChoice(state, choice);
    assert.equal(event === undefined, hadEnded);
    if (event === undefined) return;
    checker.choices[choice]!.cut = true;
    checker.see(event);
    this.#noteEnd(state);
  }

  async #step(): Promise<void> {
    const { bounds: { stepTokens: rows, stepTiles: tiles }, rowCost } = this.#setup;
    const cost = { ms: (stepRows: number) => 1 + rowCost * stepRows };
    const plan = this.#scheduler.schedule({ rows, tiles, cost }, this.#modelDrafts());
    if (plan.rowCount === 0) return this.#allowIdle();
    this.#checkPlan(plan);
    const willFail = this.#chance(this.#setup.failure);
    if (willFail) this.#model.backend.failure = () => new Error("the step fails");
    const running = this.#runner.run(plan);
    this.#disturb(); // while the step is in flight
    if (willFail) {
      await assert.rejects(running, /the step fails/);
      this.#model.backend.failure = () => undefined;
      for (const { slot } of plan.tiles) this.#slots.delete(slot);
      for (const state of this.#scheduler.fail(plan)) this.#forget(state);
      return;
    }
    for (const output of this.#scheduler.apply(plan, await running)) {
      assert.ok("event" in output);
      this.#live.get(output.state)!.see(output.event);
      this.#noteEnd(output.state);
    }
  }

  /** What a draft model might say: the right tokens, some of them spoilt. */
  #modelDrafts(): Map<number, number[]> {
    const { speculation, insight, bounds } = this.#setup;
    const drafts = new Map<number, number[]>();
    if (speculation !== "draft" && speculation !== "auto") return drafts;
    for (const [state, checker] of this.#live) {
      for (const { id, choice, generated } of state.live) {
        const from = generated.length;
        const right = checker.choices[choice]!.expected.ids.slice(from, from + bounds.draftTokens);
        const ids = right.map((token) =>
          this.#chance(insight) ? token : between(this.#random, 0, VOCABULARY - 1)
        );
        if (this.#chance(0.8)) drafts.set(id, ids);
      }
    }
    return drafts;
  }

  /** Only paused requests may leave the engine without work. */
  #allowIdle(): void {
    for (const state of this.#live.keys()) {
      assert.ok(state.paused, "nothing is computed though a request could run");
      this.#scheduler.setPaused(state, false);
    }
  }

  #checkPlan(plan: Plan): void {
    const { bounds } = this.#setup;
    assert.ok(plan.rowCount <= bounds.stepTokens, "rows");
    assert.ok(plan.tiles.length <= bounds.stepTiles, "tiles");
    assert.ok(plan.chunks.length <= bounds.runningSequences, "sequences");
    const ids = new Set(plan.chunks.map((chunk) => chunk.sequenceId));
    assert.equal(ids.size, plan.chunks.length, "one chunk per sequence");
    const scores = plan.logitRows.filter((row) => row.sampling.forcedId !== undefined);
    assert.ok(scores.length <= bounds.stepScores, "scores");
    assert.ok(plan.logitRows.length <= bounds.stepLogits, "rows of logits");
    this.#checkDrafts(plan);
    for (const { hash, slot } of plan.tiles) {
      assert.ok(![...this.#slots.values()].includes(hash), `${hash} is encoded while cached`);
      this.#slots.set(slot, hash);
    }
  }

  /** Drafts take no row from a sequence that decodes, and respect the request's wish. */
  #checkDrafts(plan: Plan): void {
    const { speculation, bounds } = this.#setup;
    const planned = new Map(plan.chunks.map((chunk) => [chunk.sequenceId, chunk]));
    const drafted = plan.chunks.reduce((total, chunk) => total + chunk.draftCount, 0);
    if (speculation === "off") assert.equal(drafted, 0);
    for (const { paused, live, request } of this.#live.keys()) {
      for (const { id, pages, generated, wanted, computed } of live) {
        const draftCount = planned.get(id)?.draftCount ?? 0;
        assert.ok(draftCount <= (request.speculates === false ? 0 : bounds.draftTokens));
        const decodes = !paused && pages.length > 0 && generated.length > 0 &&
          wanted - computed === 1;
        if (decodes && drafted > 0) assert.ok(planned.has(id), "a draft took a row");
      }
    }
  }

  #forget(state: RequestState): void {
    if (this.#live.delete(state)) this.#endedEarly += 1;
  }

  #noteEnd(state: RequestState): void {
    if (!this.#live.get(state)!.hasEnded) return;
    this.#live.delete(state);
    this.#finished += 1;
  }
}
