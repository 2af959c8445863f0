/**
 * The loop: takes requests, runs steps while there is something to compute, hands events to their
 * consumers. Decisions are the scheduler's, numbers the runner's.
 *
 * Back-pressure: a request whose consumer leaves `unreadEvents` events unread is paused until half
 * of them are read; meanwhile it is the first to give up its pages. A failed step ends the requests
 * of that step only; after `failedStepsMax` failures in a row the engine counts as lost.
 */
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend, KvFormat } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import type { LanguageModel } from "@/model/language_model.ts";
import { allowedIds } from "@/sampling/token_mask.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import type { Archive } from "./archive.ts";
import { ArchiveTraffic } from "./archive_traffic.ts";
import { checkBounds, defaultEngineBounds, type EngineBounds } from "./bounds.ts";
import { DraftModel } from "./draft_model.ts";
import { EngineTelemetry, type RequestOutcome, type RequestTimes } from "./engine_telemetry.ts";
import { GenerationStream } from "./generation_stream.ts";
import type { Plan } from "./plan.ts";
import type { EngineEvent, Generation, GenerationRequest, Generator } from "./request.ts";
import { checkRequest, type RequestRules } from "./request_check.ts";
import { encodedBytes, kvPageBytes, Runner } from "./runner.ts";
import type { ModelDrafts, SpeculationMode } from "./speculation.ts";
import { StepCost } from "./step_cost.ts";
import { type StepAllowance, StepPacer } from "./step_pacer.ts";
import { Scheduler, type SchedulerCounts, type SchedulerOutput } from "./scheduler.ts";
import type { RequestState } from "./sequence.ts";

export interface EngineOptions {
  readonly model: LanguageModel;
  /** Size of the KV cache, in pages or in bytes. */
  readonly kv:
    & { readonly format: KvFormat }
    & ({ readonly pages: number } | { readonly bytesMax: number });
  /** Ids from here on are padding rows of the embedding and are never sampled. */
  readonly usableVocabulary: number;
  /** Other ids that are never sampled: image placeholders and the like. */
  readonly forbiddenIds: readonly number[];
  /** Longest prompt and answer together; at most what model and KV cache allow (the default). */
  readonly contextTokens?: number;
  /** Visual tokens of the largest whole picture (AnyRes); default: tiles only. */
  readonly pictureTokensMax?: number;
  /** Bytes of encoded tiles kept. */
  readonly visionCacheBytes?: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly bounds?: Partial<EngineBounds>;
  /** Which drafts are verified along with the next token; never changes a token. Default: auto. */
  readonly speculation?: SpeculationMode;
  /** Guesses tokens for `model`: same tokenizer, same backend. */
  readonly draft?: {
    readonly model: LanguageModel;
    readonly kv: { readonly format: KvFormat; readonly pages: number };
  };
  /** Keeps KV pages and encoded tiles on disk. The engine closes it. */
  readonly archive?: Archive;
  /** Checks the bookkeeping whenever the engine falls idle: for tests and debugging. */
  readonly checksIntegrity?: boolean;
}

export interface EngineStats extends SchedulerCounts {
  /** False once the backend is lost: nothing will run again. */
  readonly healthy: boolean;
  readonly draining: boolean;
  readonly steps: number;
  /** How long the step in flight has been running, in ms; 0 when none is. */
  readonly stepRunningMs: number;
  readonly contextTokens: number;
  readonly kvBytes: number;
  readonly visionCacheSlots: number;
}

/** A request between submission and its last event. */
interface Active {
  readonly state: RequestState;
  readonly stream: GenerationStream;
  readonly times: RequestTimes;
  /** Choices whose finish event is still to come. */
  unfinished: number;
  /** Stops listening to the caller's signal and to the clock. */
  readonly detach: () => void;
}

export class Engine implements Generator {
  readonly contextTokens: number;
  readonly #clock: Clock;
  readonly #backend: Backend;
  readonly #bounds: EngineBounds;
  readonly #pacer: StepPacer;
  readonly #cost = new StepCost();
  readonly #rules: RequestRules;
  readonly #scheduler: Scheduler;
  readonly #runner: Runner;
  readonly #archive: Archive | undefined;
  readonly #traffic: ArchiveTraffic | undefined;
  #draftModel: DraftModel | undefined;
  readonly #telemetry: EngineTelemetry;
  readonly #checksIntegrity: boolean;
  readonly #sizes: { readonly kvBytes: number; readonly visionCacheSlots: number };
  readonly #active = new Map<RequestState, Active>();
  /** Resolves when the loop has nothing to do. */
  #loop: Promise<void> = Promise.resolve();
  #isLooping = false;
  #drained: PromiseWithResolvers<void> | undefined;
  #draining = false;
  #lost: OperatingError | undefined;
  #steps = 0;
  /** Of all active requests. */
  #pixelBytes = 0;
  #failedSteps = 0;
  #stepStartMs: number | undefined;
  #yieldedMs: number;

  /** Allocates the KV cache: throws OperatingError("unavailable") when it does not fit. */
  constructor(options: EngineOptions) {
    const { model, kv, clock } = options;
    const bounds = { ...defaultEngineBounds, ...options.bounds };
    checkBounds(bounds);
    const { pageTokens } = bounds;
    const pageBytes = kvPageBytes(model.kvShape, { format: kv.format, pageTokens });
    const pages = "pages" in kv ? kv.pages : Math.min(
      Math.floor(kv.bytesMax / pageBytes),
      model.backend.kvPagesMax?.({ ...model.kvShape, format: kv.format, pageTokens }) ?? Infinity,
    );
    const contextTokens = Math.min(
      options.contextTokens ?? Infinity,
      model.contextTokensMax,
      pages * pageTokens,
    );
    assert(contextTokens >= 2, `a context of ${contextTokens} tokens in ${pages} KV pages`);
    const visionBytes = options.visionCacheBytes ?? limits.visionCacheBytesMax;
    const pictureTokensMax = options.pictureTokensMax ?? model.tokensPerTile;
    const slotBytes = encodedBytes(model, pictureTokensMax);
    const tileSlots = Math.max(bounds.stepTiles, Math.floor(visionBytes / slotBytes));
    const { vocabularySize, tokensPerTile, tileSize, endTokenIds } = model;
    this.contextTokens = contextTokens;
    this.#clock = clock;
    this.#backend = model.backend;
    this.#bounds = bounds;
    this.#pacer = new StepPacer(bounds);
    this.#rules = { contextTokens, vocabularySize, tokensPerTile, pictureTokensMax, tileSize };
    const { usableVocabulary, forbiddenIds } = options;
    const allowed = allowedIds({ vocabularySize, usableVocabulary, forbiddenIds });
    this.#scheduler = new Scheduler({
      bounds,
      pages,
      tileSlots,
      contextTokens,
      tokensPerTile,
      endTokenIds,
      allowed,
      speculation: options.speculation ?? "auto",
      recordsUse: options.archive !== undefined,
    });
    this.#runner = new Runner({
      model,
      kv: { format: kv.format, pages, pageTokens },
      allowed,
    });
    this.#archive = options.archive;
    this.#traffic = options.archive && new ArchiveTraffic({
      archive: options.archive,
      scheduler: this.#scheduler,
      runner: this.#runner,
      wake: () => this.#wake(),
      onError: (error) => this.#telemetry.archiveFailed(error),
    });
    this.#draftModel = openDraftModel(options, bounds);
    this.#telemetry = new EngineTelemetry({
      ...options,
      sizes: { pageBytes, tileBytes: encodedBytes(model, tokensPerTile) },
    });
    this.#checksIntegrity = options.checksIntegrity ?? false;
    this.#sizes = { kvBytes: pages * pageBytes, visionCacheSlots: tileSlots };
    this.#yieldedMs = clock.nowMs();
  }

  submit(request: GenerationRequest, options: { signal?: AbortSignal } = {}): Generation {
    try {
      this.#checkOpen();
      checkRequest(request, this.#rules);
      this.#checkQueue();
      this.#checkMemory(request);
    } catch (error) {
      this.#telemetry.refused();
      throw error;
    }
    const state = this.#scheduler.add(request);
    this.#pixelBytes += pixelBytes(request);
    const { signal } = options;
    const cancel = () => this.#cancel(state);
    const stream = new GenerationStream({
      finishChoice: (choice) => this.#finishChoice(state, choice),
      onRead: () => this.#resumeIfRead(state),
      onLeave: cancel,
    });
    signal?.addEventListener("abort", cancel, { once: true });
    const { generationMs } = this.#bounds;
    const timer = Number.isFinite(generationMs)
      ? setTimeout(() => this.#expire(state), generationMs)
      : undefined;
    this.#active.set(state, {
      state,
      stream,
      times: this.#telemetry.accepted(request.promptIds.length),
      unfinished: request.choices,
      detach: () => {
        signal?.removeEventListener("abort", cancel);
        clearTimeout(timer);
      },
    });
    if (signal?.aborted) cancel();
    if (this.#active.has(state)) this.#traffic?.restore(state, () => this.#active.has(state));
    this.#wake();
    return stream;
  }

  stats(): EngineStats {
    const stepStartMs = this.#stepStartMs;
    return {
      ...this.#scheduler.counts,
      ...this.#sizes,
      healthy: this.#lost === undefined,
      draining: this.#draining,
      steps: this.#steps,
      stepRunningMs: stepStartMs === undefined ? 0 : this.#clock.nowMs() - stepStartMs,
      contextTokens: this.contextTokens,
    };
  }

  /** Refuses new requests from now on; resolves when the accepted ones have ended. */
  drain(): Promise<void> {
    this.#draining = true;
    this.#drained ??= Promise.withResolvers();
    if (this.#active.size === 0) this.#drained.resolve();
    return this.#drained.promise;
  }

  /** Ends everything now and frees the engine's memory; the model stays open. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#failAll(new OperatingError("unavailable", "Cannot go on: the server is stopping"));
    await this.#traffic?.close();
    await this.#loop;
    this.#telemetry.summary(this.#scheduler.counts, this.#archive?.counts);
    await this.#archive?.close();
    this.#runner.close();
    this.#draftModel?.close();
  }

  /** Asserts that the scheduler's bookkeeping is consistent. */
  checkIntegrity(): void {
    this.#scheduler.checkIntegrity();
  }

  #checkOpen(): void {
    if (this.#lost) throw this.#lost;
    if (!this.#draining) return;
    throw new OperatingError("unavailable", "Cannot take requests: the server is stopping");
  }

  #checkQueue(): void {
    const { counts } = this.#scheduler;
    const { queueRequests } = this.#bounds;
    if (counts.waitingRequests < queueRequests) return;
    throw this.#overloaded(`${counts.waitingRequests} of ${queueRequests} wait already`);
  }

  /** Pixels are kept until a request ends: its pages may have to be computed again. */
  #checkMemory(request: GenerationRequest): void {
    const wanted = this.#pixelBytes + pixelBytes(request);
    const { pendingPixelBytes } = this.#bounds;
    if (wanted <= pendingPixelBytes || this.#pixelBytes === 0) return;
    throw this.#overloaded(`${wanted} bytes of pixels exceed ${pendingPixelBytes}`);
  }

  #overloaded(reason: string): OperatingError {
    return new OperatingError("overloaded", `Cannot queue the request: ${reason}`, {
      retryAfterSeconds: this.#telemetry.retryAfterSeconds(this.#scheduler.counts),
    });
  }

  /** Starts the loop unless it runs. */
  #wake(): void {
    if (this.#isLooping || this.#lost) return;
    this.#isLooping = true;
    this.#loop = this.#runLoop();
  }

  async #runLoop(): Promise<void> {
    try {
      // What is submitted in the same turn shares the first step.
      await Promise.resolve();
      while (!this.#lost) {
        await this.#traffic?.betweenSteps();
        const drafts = await this.#draft();
        // No waiting between an empty plan and the end of the loop: who submits then wakes it anew.
        const plan = this.#scheduler.schedule(this.#allowance(), drafts);
        if (plan.rowCount === 0 && !this.#traffic?.hasErrands) break;
        if (plan.rowCount === 0) continue;
        await this.#step(plan);
        await this.#yieldIfDue();
      }
      if (this.#checksIntegrity && !this.#lost) this.#scheduler.checkIntegrity();
    } catch (error) {
      this.#lose(error);
    } finally {
      this.#isLooping = false;
      this.#telemetry.counts(this.#scheduler.counts, this.#archive?.counts);
    }
  }

  #allowance(): StepAllowance {
    const { runningSequences } = this.#scheduler.counts;
    const allowance = this.#pacer.allowance(runningSequences, this.#active.size);
    const ahead = this.#programsInFlight(runningSequences) > 1 ? limits.stepsAheadMax : 0;
    return { ...allowance, cost: this.#cost, ahead };
  }

  /** Guesses of the draft model for the next step. */
  async #draft(): Promise<ModelDrafts> {
    if (this.#draftModel === undefined) return new Map();
    const { roundMs } = this.#draftModel;
    const allowance = this.#allowance();
    const wants = this.#scheduler.draftWants({ allowance, roundMs });
    if (wants.length === 0) return new Map();
    try {
      return await this.#draftModel.propose(wants, allowance.rows);
    } catch (error) {
      // The answers do not need it.
      this.#telemetry.draftModelLost(error);
      this.#draftModel.close();
      this.#draftModel = undefined;
      return new Map();
    }
  }

  /**
   * Runs a plan and the steps that follow it before its results are known, until something else is
   * to do. Results are told as they come.
   */
  async #stepAhead(plan: Plan): Promise<void> {
    const startMs = this.#stepStartMs = this.#clock.nowMs();
    let steps: number;
    try {
      steps = await this.#runner.runAhead(plan, {
        inFlight: this.#programsInFlight(plan.rowCount),
        take: (step, result) => {
          for (const output of this.#scheduler.applyAhead(plan, step, result)) {
            this.#deliver(output);
          }
          this.#stepStartMs = this.#clock.nowMs();
          return !this.#traffic?.hasErrands && this.#scheduler.goesOn(plan);
        },
      });
    } catch (error) {
      return this.#failStep(plan, error);
    } finally {
      this.#stepStartMs = undefined;
    }
    this.#steps += steps;
    this.#failedSteps = 0;
    this.#scheduler.land(plan);
    const ms = (this.#clock.nowMs() - startMs) / steps;
    this.#pacer.observe({ rows: plan.rowCount, tiles: 0, ms });
    this.#cost.observe(plan.rowCount, ms);
    for (let step = 0; step < steps; step++) this.#telemetry.step(plan, ms);
    this.#telemetry.counts(this.#scheduler.counts, this.#archive?.counts);
  }

  /** As many steps as the time of one may take, if the backend is worth it. */
  #programsInFlight(rows: number): number {
    const { programsInFlight = 1 } = this.#backend;
    const ms = this.#cost.ms(rows) ?? Infinity;
    return Math.max(1, Math.min(programsInFlight, Math.floor(this.#bounds.stepMs / ms)));
  }

  async #step(plan: Plan): Promise<void> {
    if (plan.ahead) return await this.#stepAhead(plan);
    const startMs = this.#stepStartMs = this.#clock.nowMs();
    let result: Awaited<ReturnType<Runner["run"]>>;
    try {
      result = await this.#runner.run(plan);
    } catch (error) {
      return this.#failStep(plan, error);
    } finally {
      this.#stepStartMs = undefined;
      this.#steps += 1;
    }
    this.#failedSteps = 0;
    for (const output of this.#scheduler.apply(plan, result)) this.#deliver(output);
    const ms = this.#clock.nowMs() - startMs;
    this.#pacer.observe({ rows: plan.rowCount, tiles: result.encoded.length, ms });
    const allDraw = plan.logitRows.length === plan.rowCount && plan.tiles.length === 0;
    if (allDraw) this.#cost.observe(plan.rowCount, ms);
    this.#telemetry.step(plan, ms);
    this.#telemetry.counts(this.#scheduler.counts, this.#archive?.counts);
    await this.#traffic?.storeTiles(result.encoded);
  }

  /** A fast backend must not keep timers and requests from running. */
  async #yieldIfDue(): Promise<void> {
    if (this.#clock.nowMs() - this.#yieldedMs < limits.engineYieldMs) return;
    await nextTurn();
    this.#yieldedMs = this.#clock.nowMs();
  }

  #deliver(output: SchedulerOutput): void {
    const active = this.#active.get(output.state);
    if (active === undefined) return;
    if ("error" in output) return this.#end(active, { outcome: "failed", error: output.error });
    this.#push(active, output.event);
  }

  #push(active: Active, event: EngineEvent): void {
    const { state, stream, times } = active;
    if (event.type === "token") this.#telemetry.token(times, event.choice);
    stream.push(event);
    if (event.type === "finish") active.unfinished -= 1;
    if (active.unfinished === 0) this.#end(active, { outcome: "finished" });
    else if (stream.unread >= this.#bounds.unreadEvents && !state.paused) {
      this.#scheduler.setPaused(state, true);
    }
  }

  #resumeIfRead(state: RequestState): void {
    const active = this.#active.get(state);
    if (!active || !state.paused) return;
    if (active.stream.unread > this.#bounds.unreadEvents / 2) return;
    this.#scheduler.setPaused(state, false);
    this.#wake();
  }

  #finishChoice(state: RequestState, choice: number): void {
    const active = this.#active.get(state);
    const event = active && this.#scheduler.finishChoice(state, choice);
    if (event) this.#push(active, event);
    this.#wake();
  }

  #cancel(state: RequestState): void {
    const active = this.#active.get(state);
    if (active === undefined) return;
    this.#scheduler.abort(state);
    const error = new OperatingError("cancelled", "Cannot go on: the request was cancelled");
    this.#end(active, { outcome: "cancelled", error });
    this.#wake();
  }

  /** The request took too long: its choices end where they are, if there are any yet. */
  #expire(state: RequestState): void {
    const active = this.#active.get(state);
    if (active === undefined) return;
    if (state.promptComputed) {
      for (const { choice } of [...state.live]) {
        const event = this.#scheduler.finishChoice(state, choice, "length");
        if (event) this.#push(active, event);
      }
    } else {
      this.#scheduler.abort(state);
      const seconds = this.#bounds.generationMs / 1000;
      const message = `Cannot answer within ${seconds} s: the prompt is not computed yet`;
      this.#end(active, {
        outcome: "failed",
        error: new OperatingError("unavailable", message, {
          retryAfterSeconds: this.#telemetry.retryAfterSeconds(this.#scheduler.counts),
        }),
      });
    }
    this.#wake();
  }

  #end(active: Active, end: { outcome: RequestOutcome; error?: OperatingError }): void {
    this.#active.delete(active.state);
    this.#pixelBytes -= pixelBytes(active.state.request);
    active.detach();
    if (end.error) active.stream.fail(end.error, { dropped: end.outcome === "cancelled" });
    else active.stream.end();
    this.#telemetry.ended(active.times, end.outcome);
    if (this.#active.size === 0) this.#drained?.resolve();
  }

  #failStep(plan: Plan, cause: unknown): void {
    this.#telemetry.stepFailed(plan, cause);
    if (this.#backend.lost) return this.#lose(this.#backend.lost);
    // Somebody else did not answer and may do so soon: this engine is sound.
    const isOutside = cause instanceof OperatingError && cause.retryAfterSeconds !== undefined;
    if (!isOutside) this.#failedSteps += 1;
    const error = cause instanceof OperatingError
      ? cause
      : new OperatingError("internal", "Cannot go on: a computing step failed", { cause });
    for (const state of this.#scheduler.fail(plan)) {
      const active = this.#active.get(state);
      if (active) this.#end(active, { outcome: "failed", error });
    }
    if (this.#failedSteps >= limits.failedStepsMax) this.#lose(cause);
  }

  /** The backend or the bookkeeping cannot be trusted any more. */
  #lose(cause: unknown): void {
    this.#telemetry.lost(cause);
    this.#lost = new OperatingError("unavailable", "Cannot compute: the model has failed", {
      cause,
    });
    this.#failAll(this.#lost);
  }

  #failAll(error: OperatingError): void {
    for (const active of [...this.#active.values()]) {
      // A lost engine's bookkeeping is never used again, and may be what failed.
      if (!this.#lost) this.#scheduler.abort(active.state);
      this.#end(active, { outcome: "failed", error });
    }
  }
}

function openDraftModel(
  { draft, usableVocabulary, forbiddenIds, clock }: EngineOptions,
  { pageTokens, stepTokens }: EngineBounds,
): DraftModel | undefined {
  if (draft === undefined) return undefined;
  const { model, kv } = draft;
  const { vocabularySize, endTokenIds } = model;
  const usable = Math.min(usableVocabulary, vocabularySize);
  return new DraftModel({
    model,
    kv: { ...kv, pageTokens },
    allowed: allowedIds({ vocabularySize, usableVocabulary: usable, forbiddenIds }),
    rowsMax: stepTokens,
    endTokenIds,
    clock,
  });
}

function pixelBytes(request: GenerationRequest): number {
  return request.tiles.reduce((total, tile) => total + tile.pixels.length, 0);
}

/** Lets timers and network events run, sooner than a timer of 0 ms would in most runtimes. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof globalThis.setImmediate === "function") {
      globalThis.setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
