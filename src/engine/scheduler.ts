/**
 * The engine's decisions: `schedule()` says what the next step computes, `apply()` takes its
 * results. Synchronous and free of clocks and devices, so a simulation can drive it. One step is in
 * flight at a time; requests may come and go meanwhile, because steps run in order: pages freed
 * during a step are written again only by a later one.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import type { SampledRow } from "@/sampling/sampler.ts";
import type { EngineBounds } from "./bounds.ts";
import type { StepAllowance } from "./step_pacer.ts";
import { EncoderCache } from "./encoder_cache.ts";
import { KvPages } from "./kv_pages.ts";
import type { Plan, PlannedChunk, StepResult } from "./plan.ts";
import { type CachedPage, PrefixCache, type RestoredPage } from "./prefix_cache.ts";
import type {
  DraftOutcome,
  EngineEvent,
  FinishReason,
  GenerationRequest,
  TokenLogprob,
} from "./request.ts";
import { Residency } from "./residency.ts";
import { RequestState, type Sequence } from "./sequence.ts";
import {
  type DraftWant,
  type ModelDrafts,
  Speculation,
  type SpeculationMode,
} from "./speculation.ts";
import { StepPlanner } from "./step_planner.ts";
import { planAhead } from "./steps_ahead.ts";

/** Something to tell a request's consumer. After its last finish event, or an error, it is gone. */
export type SchedulerOutput =
  | { readonly state: RequestState; readonly event: EngineEvent }
  | { readonly state: RequestState; readonly error: OperatingError };

export interface SchedulerCounts {
  readonly waitingRequests: number;
  readonly waitingSequences: number;
  readonly runningSequences: number;
  readonly kvPagesTotal: number;
  readonly kvPagesFree: number;
  /** Kept by the prefix cache alone. */
  readonly kvPagesCached: number;
  readonly preemptions: number;
  /** Prompt tokens whose computing has begun, and those of them that were cached. */
  readonly promptTokens: number;
  readonly prefixHitTokens: number;
  /** Cached pages given up for others. */
  readonly prefixEvictions: number;
  readonly visionCacheTiles: number;
  readonly visionCacheHits: number;
  readonly visionCacheMisses: number;
  readonly visionEvictions: number;
  readonly draftsAccepted: number;
  readonly draftsRejected: number;
}

export class Scheduler {
  readonly #bounds: EngineBounds;
  readonly #fullStep: StepAllowance;
  readonly #contextTokens: number;
  readonly #tokensPerTile: number;
  readonly #endTokenIds: ReadonlySet<number>;
  readonly #pages: KvPages;
  readonly #residency: Residency;
  readonly #planner: StepPlanner;
  readonly #speculation: Speculation;
  readonly #requests = new Set<RequestState>();
  readonly #sequences = new Map<number, Sequence>();
  #arrivals = 0;
  #nextSequenceId = 0;
  #promptTokens = 0;
  #prefixHitTokens = 0;
  #inFlight: Plan | undefined;

  /** `pages * pageTokens` must hold `contextTokens`, so that any request can run alone. */
  constructor(args: {
    bounds: EngineBounds;
    pages: number;
    tileSlots: number;
    contextTokens: number;
    tokensPerTile: number;
    endTokenIds: readonly number[];
    /** Default: off. */
    speculation?: SpeculationMode;
    /** Mask of the ids that may be drawn; no other is drafted. */
    allowed?: Int32Array;
    /** Tells with `takeUsedPages` which pages are worth keeping elsewhere. */
    recordsUse?: boolean;
  }) {
    const { bounds } = args;
    assert(args.pages * bounds.pageTokens >= args.contextTokens, "the context exceeds the pages");
    this.#bounds = bounds;
    this.#fullStep = { rows: bounds.stepTokens, tiles: bounds.stepTiles };
    this.#contextTokens = args.contextTokens;
    this.#tokensPerTile = args.tokensPerTile;
    this.#endTokenIds = new Set(args.endTokenIds);
    this.#pages = new KvPages(args.pages);
    const encoder = new EncoderCache(args.tileSlots);
    const cache = new PrefixCache(this.#pages);
    const { recordsUse = false } = args;
    this.#residency = new Residency({ cache, encoder, bounds, recordsUse });
    const endTokenIds = this.#endTokenIds;
    this.#planner = new StepPlanner({ bounds, encoder, endTokenIds });
    const { contextTokens, allowed, speculation: mode = "off" } = args;
    this.#speculation = new Speculation({ mode, bounds, contextTokens, endTokenIds, allowed });
  }

  get isIdle(): boolean {
    return this.#requests.size === 0;
  }

  /** Requests of which nothing runs. */
  get waitingRequests(): number {
    const running = new Set(this.#residency.running.map((sequence) => sequence.state));
    return this.#requests.size - running.size;
  }

  get counts(): SchedulerCounts {
    const { running, waiting, cache, encoder, preemptions } = this.#residency;
    const { hits, misses } = this.#planner.visionCounts;
    return {
      waitingRequests: this.waitingRequests,
      waitingSequences: waiting.length,
      runningSequences: running.length,
      kvPagesTotal: this.#pages.total,
      kvPagesFree: this.#pages.freeCount,
      kvPagesCached: cache.unusedCount,
      preemptions,
      promptTokens: this.#promptTokens,
      prefixHitTokens: this.#prefixHitTokens,
      prefixEvictions: cache.evictions,
      visionCacheTiles: encoder.size,
      visionCacheHits: hits,
      visionCacheMisses: misses,
      visionEvictions: encoder.evictions,
      ...this.#speculation.counts,
    };
  }

  /** Takes a checked request (see request_check.ts). */
  add(request: GenerationRequest): RequestState {
    const { promptIds } = request;
    assert(promptIds.length > 0 && promptIds.length < this.#contextTokens, "unchecked prompt");
    const state = new RequestState({
      request,
      arrival: this.#arrivals++,
      firstSequenceId: this.#nextSequenceId,
      pageTokens: this.#bounds.pageTokens,
      tokensPerTile: this.#tokensPerTile,
    });
    this.#nextSequenceId += request.choices;
    this.#requests.add(state);
    for (const sequence of state.live) {
      this.#sequences.set(sequence.id, sequence);
      this.#residency.add(sequence);
    }
    return state;
  }

  /** Forgets a request; what it held is free at once. Nothing more is told of it. */
  abort(state: RequestState): void {
    for (const sequence of [...state.live]) this.#remove(sequence);
  }

  /** Ends one choice; undefined when it has ended already. */
  finishChoice(
    state: RequestState,
    choice: number,
    reason: FinishReason = "stop",
  ): EngineEvent | undefined {
    const sequence = state.live.find((candidate) => candidate.choice === choice);
    if (sequence === undefined) return undefined;
    this.#remove(sequence);
    return { type: "finish", choice, reason };
  }

  /** A paused request keeps its place but gets no rows, and is the first to give up pages. */
  setPaused(state: RequestState, paused: boolean): void {
    state.paused = paused;
    if (paused) { for (const sequence of state.live) this.#residency.unpin(sequence); }
  }

  /**
   * Cached pages that were filed or taken since the last call, parents first. What they hold stays
   * as it is until the next step.
   */
  takeUsedPages(): CachedPage[] {
    return this.#residency.takeUsed();
  }

  /** Whether a tile is encoded and kept. */
  hasTile(hash: string): boolean {
    return this.#residency.encoder.has(hash);
  }

  /** Cached pages that a request would start from now, and the keys of those that it lacks. */
  findPrefix(state: RequestState): { path: CachedPage[]; missing: string[] } {
    const [first] = state.live;
    const keys = first ? [...this.#residency.matchKeys(first)] : [];
    const path = this.#residency.cache.match(keys);
    return { path, missing: keys.slice(path.length) };
  }

  /** Puts back pages that follow `path`; only between steps. See `PrefixCache.restore`. */
  restorePages(path: readonly CachedPage[], pages: readonly RestoredPage[]): CachedPage[] {
    assert(this.#inFlight === undefined, "pages are restored while a step is in flight");
    return this.#residency.cache.restore(path, pages);
  }

  /** What a draft model should guess before `schedule`; see `Speculation.wants`. */
  draftWants(step: { allowance: StepAllowance; roundMs: number | undefined }): DraftWant[] {
    return this.#speculation.wants(this.#residency.running, step);
  }

  /**
   * What to compute next; no rows when nothing can run. `modelDrafts` are a draft model's guesses by
   * sequence id, made since the last step.
   */
  schedule(
    allowance: StepAllowance = this.#fullStep,
    modelDrafts: ModelDrafts = new Map(),
  ): Plan {
    assert(this.#inFlight === undefined, "schedule() while a step is in flight");
    this.#residency.grow();
    this.#residency.admit();
    const { running } = this.#residency;
    const drafts = this.#reserve(this.#speculation.propose(running, { allowance, modelDrafts }));
    const planned = this.#planner.plan(running, allowance, drafts);
    const ahead = planAhead(planned, this.#residency, {
      steps: allowance.ahead ?? 0,
      contextTokens: this.#contextTokens,
      endTokenIds: this.#endTokenIds,
    });
    const plan = ahead ? { ...planned, ahead } : planned;
    if (plan.rowCount > 0) this.#inFlight = plan;
    return plan;
  }

  /** Takes the results of the step in flight. */
  apply(plan: Plan, result: StepResult): SchedulerOutput[] {
    this.land(plan);
    return this.#take(plan, result);
  }

  /**
   * Takes the results of step `step` of a plan with steps ahead, 0 being the plan's own; in order.
   * The plan stays in flight until `land`.
   */
  applyAhead(plan: Plan, step: number, result: StepResult): SchedulerOutput[] {
    assert(plan === this.#inFlight, "results of another step");
    if (step === 0) return this.#take(plan, result);
    const outputs: SchedulerOutput[] = [];
    for (const [index, { sequenceId }] of plan.chunks.entries()) {
      const sequence = this.#sequences.get(sequenceId);
      // Ended before, or at a step that it has no slot for.
      if (sequence === undefined || sequence.wanted > plan.ahead!.slotEnds[index]!) continue;
      const row = result.rows[index]!;
      if (isUnusable(row)) {
        this.abort(sequence.state);
        outputs.push({ state: sequence.state, error: noTokenError() });
        continue;
      }
      sequence.computed += 1;
      this.#residency.fileFullPages(sequence);
      this.#takeToken(sequence, { row, outputs });
    }
    return outputs;
  }

  /** Whether more of a plan's steps ahead are worth computing. */
  goesOn(plan: Plan): boolean {
    const { waiting } = this.#residency;
    const live = plan.chunks.map(({ sequenceId }) => this.#sequences.get(sequenceId))
      .filter((sequence) => sequence !== undefined);
    return waiting.length === 0 && 2 * live.length > plan.chunks.length &&
      live.every(({ state }) => !state.paused);
  }

  /** Ends a plan with steps ahead, all of whose results were taken. */
  land(plan: Plan): void {
    assert(plan === this.#inFlight, "results of another step");
    this.#inFlight = undefined;
  }

  #take(plan: Plan, result: StepResult): SchedulerOutput[] {
    assert(result.rows.length === plan.logitRows.length, "one result per logit row");
    const outputs: SchedulerOutput[] = [];
    for (const chunk of plan.chunks) {
      const sequence = this.#sequences.get(chunk.sequenceId);
      if (sequence === undefined) continue; // ended while the step ran
      const { firstLogitRow, scoreCount, draws, draftCount } = chunk;
      const rowCount = scoreCount + (draws ? 1 + draftCount : 0);
      const rows = result.rows.slice(firstLogitRow, firstLogitRow + rowCount);
      this.#advance(sequence, { chunk, rows, outputs });
    }
    return outputs;
  }

  /** The step in flight failed: its requests are gone. Returns them. */
  fail(plan: Plan): RequestState[] {
    this.land(plan);
    const failed = new Set<RequestState>();
    for (const { sequenceId } of plan.chunks) {
      const state = this.#sequences.get(sequenceId)?.state;
      if (state) failed.add(state);
    }
    for (const state of failed) this.abort(state);
    for (const { hash } of plan.tiles) this.#residency.encoder.drop(hash);
    return [...failed];
  }

  /** Asserts that pages, pins and lists agree with each other. Costs a walk over all pages. */
  checkIntegrity(): void {
    const { running, waiting, cache, encoder } = this.#residency;
    assert(running.length + waiting.length === this.#sequences.size, "a sequence is lost");
    const held = new Map<number, number>();
    const pins = new Map<string, number>();
    for (const sequence of running) {
      assert(sequence.computed <= sequence.pages.length * this.#bounds.pageTokens, "lost pages");
      assert(sequence.computed < sequence.wanted, "nothing to compute");
      for (const page of sequence.pages) held.set(page, (held.get(page) ?? 0) + 1);
      for (const index of sequence.pins.keys()) {
        const { hash } = sequence.state.request.tiles[index]!;
        pins.set(hash, (pins.get(hash) ?? 0) + 1);
      }
    }
    for (const sequence of waiting) assert(sequence.pages.length === 0, "a waiting one has pages");
    cache.checkIntegrity(held);
    encoder.checkIntegrity(pins);
  }

  /** The drafts that find slots. */
  #reserve(drafts: ModelDrafts): ModelDrafts {
    return new Map(Array.from(drafts, ([id, ids]) => {
      const sequence = this.#sequences.get(id);
      assert(sequence !== undefined, `drafts for sequence ${id}, which does not run`);
      return [id, ids.slice(0, this.#residency.reserve(sequence, ids.length))];
    }));
  }

  #advance(sequence: Sequence, step: {
    chunk: PlannedChunk;
    rows: readonly SampledRow[];
    outputs: SchedulerOutput[];
  }): void {
    const { chunk, rows, outputs } = step;
    const { state } = sequence;
    // Drafts count as computed only when they become tokens of the answer.
    sequence.computed = chunk.start + chunk.tokenIds.length - chunk.draftCount;
    this.#residency.fileFullPages(sequence);
    this.#residency.unpin(sequence, { before: sequence.computed });
    const accepted = acceptedDrafts(chunk, rows);
    const used = rows.slice(0, chunk.scoreCount + (chunk.draws ? 1 + accepted : 0));
    if (used.some(isUnusable)) {
      this.abort(state);
      outputs.push({ state, error: noTokenError() });
      return;
    }
    const topCount = state.request.params.topLogprobs ?? 0;
    for (const row of rows.slice(0, chunk.scoreCount)) {
      const { id, logprob } = row;
      state.scores.push({ chosen: { id, logprob }, top: row.candidates.slice(0, topCount) });
    }
    if (!state.promptComputed) this.#reportPrompt(sequence, outputs);
    if (chunk.draws) {
      const drawn = used.slice(chunk.scoreCount);
      this.#takeTokens(sequence, { rows: drawn, draftCount: chunk.draftCount, outputs });
    }
  }

  /** Takes the draws up to the first that differs from its draft: each but the last confirms one. */
  #takeTokens(sequence: Sequence, step: {
    rows: readonly SampledRow[];
    draftCount: number;
    outputs: SchedulerOutput[];
  }): void {
    const { rows, draftCount, outputs } = step;
    const accepted = rows.length - 1;
    if (draftCount > 0) this.#speculation.observe(sequence, { drafted: draftCount, accepted });
    for (const [index, row] of rows.entries()) {
      if (index > 0) {
        sequence.computed += 1;
        this.#residency.fileFullPages(sequence);
      }
      const drafts = index < accepted
        ? { accepted: 1, rejected: 0 }
        : { accepted: 0, rejected: draftCount - accepted };
      this.#takeToken(sequence, { row, outputs, ...(draftCount > 0 && { drafts }) });
      if (!this.#sequences.has(sequence.id)) return;
    }
  }

  /** Progress of the prompt, and what follows when it is complete. */
  #reportPrompt(sequence: Sequence, outputs: SchedulerOutput[]): void {
    const { state } = sequence;
    const total = state.promptLength;
    const computed = Math.min(sequence.computed, total);
    if (state.reportedTokens < 0) {
      state.cachedTokens = sequence.cachedTokens;
      this.#promptTokens += total;
      this.#prefixHitTokens += sequence.cachedTokens;
    }
    if (computed > state.reportedTokens) {
      state.reportedTokens = computed;
      const cached = state.cachedTokens;
      outputs.push({ state, event: { type: "prefill", computed, total, cached } });
    }
    if (computed < total) return;
    state.promptComputed = true;
    if (state.request.promptLogprobs) {
      outputs.push({ state, event: { type: "prompt_logprobs", entries: state.scores } });
    }
    if (state.request.params.maxTokens > 0) return;
    for (const choice of [...state.live]) this.#finish(choice, { reason: "length", outputs });
  }

  #takeToken(sequence: Sequence, step: {
    row: SampledRow;
    outputs: SchedulerOutput[];
    drafts?: DraftOutcome;
  }): void {
    const { row, outputs, drafts } = step;
    const { id } = row;
    const { state, choice } = sequence;
    const { params } = state.request;
    sequence.generated.push(id);
    sequence.history.push(id);
    const wantsLogprobs = params.topLogprobs !== undefined;
    const logprob: TokenLogprob | undefined = wantsLogprobs
      ? { id, logprob: row.logprob }
      : undefined;
    const top = row.candidates.slice(0, params.topLogprobs ?? 0);
    const event = { type: "token", choice, id, logprob, top, ...(drafts && { drafts }) } as const;
    outputs.push({ state, event });
    const isEnd = this.#endTokenIds.has(id) && !params.ignoreEos;
    if (isEnd || params.stopTokenIds.includes(id)) {
      this.#finish(sequence, { reason: "stop", outputs });
    } else if (
      sequence.generated.length >= params.maxTokens || sequence.wanted >= this.#contextTokens
    ) {
      this.#finish(sequence, { reason: "length", outputs });
    }
  }

  #finish(
    sequence: Sequence,
    end: { reason: FinishReason; outputs: SchedulerOutput[] },
  ): void {
    const { state, choice } = sequence;
    this.#remove(sequence);
    end.outputs.push({ state, event: { type: "finish", choice, reason: end.reason } });
  }

  #remove(sequence: Sequence): void {
    const { live } = sequence.state;
    live.splice(live.indexOf(sequence), 1);
    this.#residency.remove(sequence);
    this.#sequences.delete(sequence.id);
    if (live.length === 0) this.#requests.delete(sequence.state);
  }
}

/** Drafts that equal the draws before them, up to the first that does not. */
function acceptedDrafts(chunk: PlannedChunk, rows: readonly SampledRow[]): number {
  const drafts = chunk.draftCount > 0 ? chunk.tokenIds.slice(-chunk.draftCount) : [];
  const wrong = drafts.findIndex((id, index) => rows[chunk.scoreCount + index]!.id !== id);
  return wrong < 0 ? drafts.length : wrong;
}

function isUnusable(row: SampledRow): boolean {
  return row.id < 0 || Number.isNaN(row.logprob);
}

function noTokenError(): OperatingError {
  return new OperatingError("internal", "Cannot sample a token: the model's logits are unusable");
}
