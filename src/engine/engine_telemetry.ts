/** What the engine tells the outside about itself: metrics, log lines, an estimate of waiting time. */
import type { Clock } from "@/clock.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import type { DiskStoreCounts } from "./disk_store.ts";
import type { Plan } from "./plan.ts";
import type { SchedulerCounts } from "./scheduler.ts";

export type RequestOutcome = "finished" | "cancelled" | "failed";

/** Times of one request, in clock milliseconds. */
export interface RequestTimes {
  readonly submittedMs: number;
  /** By choice. */
  readonly lastTokenMs: Map<number, number>;
}

/** Weight of the newest request in the running mean of request times. */
const MEAN_WEIGHT = 0.1;
const RETRY_SECONDS_MAX = 60;

export class EngineTelemetry {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  /** Bytes of a KV page and of an encoded tile. */
  readonly #sizes: { readonly pageBytes: number; readonly tileBytes: number };
  #counted: SchedulerCounts | undefined;
  #stored: DiskStoreCounts | undefined;
  #meanRequestSeconds = 1;

  constructor(args: {
    clock: Clock;
    metrics: Metrics;
    log: Logger;
    sizes: { readonly pageBytes: number; readonly tileBytes: number };
  }) {
    this.#sizes = args.sizes;
    this.#clock = args.clock;
    this.#metrics = args.metrics;
    this.#log = args.log;
  }

  accepted(promptTokens: number): RequestTimes {
    this.#metrics.count("flotilla_prompt_tokens_total", promptTokens);
    return { submittedMs: this.#clock.nowMs(), lastTokenMs: new Map() };
  }

  refused(): void {
    this.#metrics.count("flotilla_requests_finished_total", 1, { outcome: "refused" });
  }

  token(times: RequestTimes, choice: number): void {
    const nowMs = this.#clock.nowMs();
    const lastMs = times.lastTokenMs.get(choice);
    if (lastMs !== undefined) {
      this.#metrics.observe("flotilla_inter_token_seconds", (nowMs - lastMs) / 1000);
    } else if (times.lastTokenMs.size === 0) {
      const seconds = (nowMs - times.submittedMs) / 1000;
      this.#metrics.observe("flotilla_time_to_first_token_seconds", seconds);
    }
    times.lastTokenMs.set(choice, nowMs);
    this.#metrics.count("flotilla_generated_tokens_total");
  }

  ended(times: RequestTimes, outcome: RequestOutcome): void {
    this.#metrics.count("flotilla_requests_finished_total", 1, { outcome });
    const seconds = (this.#clock.nowMs() - times.submittedMs) / 1000;
    this.#meanRequestSeconds += MEAN_WEIGHT * (seconds - this.#meanRequestSeconds);
  }

  step(plan: Plan, durationMs: number): void {
    this.#metrics.observe("flotilla_step_seconds", durationMs / 1000);
    this.#metrics.observe("flotilla_step_rows", plan.rowCount);
    this.#metrics.count("flotilla_computed_rows_total", plan.rowCount);
    if (!this.#log.writes("debug")) return;
    this.#log.debug("step", {
      step: plan.stepIndex,
      rows: plan.rowCount,
      sequences: plan.chunks.length,
      tiles: plan.tiles.length,
      drawn: plan.logitRows.length,
      durationMs,
    });
  }

  stepFailed(plan: Plan, error: unknown): void {
    this.#metrics.count("flotilla_engine_errors_total");
    this.#log.error("engine step failed", {
      step: plan.stepIndex,
      rows: plan.rowCount,
      sequences: plan.chunks.length,
      error,
    });
  }

  draftModelLost(error: unknown): void {
    this.#metrics.count("flotilla_engine_errors_total");
    this.#log.warn("draft model lost: answers go on without it", { error });
  }

  lost(error: unknown): void {
    this.#metrics.count("flotilla_engine_errors_total");
    this.#log.error("engine lost: no more requests are taken", { error });
  }

  archiveFailed(error: unknown): void {
    this.#log.warn("disk cache fails: answers go on without it", { error });
  }

  /** Copies the counts of the scheduler, and of the disk cache if there is one, into the metrics. */
  counts(counts: SchedulerCounts, stored?: DiskStoreCounts): void {
    if (stored) this.#disk(stored);
    const metrics = this.#metrics;
    metrics.set("flotilla_queue_requests", counts.waitingRequests);
    metrics.set("flotilla_running_sequences", counts.runningSequences);
    const { kvPagesTotal, kvPagesFree: free, kvPagesCached: cached } = counts;
    metrics.set("flotilla_kv_pages", free, { state: "free" });
    metrics.set("flotilla_kv_pages", cached, { state: "cached" });
    metrics.set("flotilla_kv_pages", kvPagesTotal - free - cached, { state: "used" });
    metrics.set("flotilla_cache_bytes", cached * this.#sizes.pageBytes, { cache: "prefix" });
    const tileBytes = counts.visionCacheTiles * this.#sizes.tileBytes;
    metrics.set("flotilla_cache_bytes", tileBytes, { cache: "vision" });
    const last = this.#counted;
    this.#counted = counts;
    const grown = (name: CounterName) => counts[name] - (last?.[name] ?? 0);
    metrics.count("flotilla_preemptions_total", grown("preemptions"));
    metrics.count("flotilla_prefix_hit_tokens_total", grown("prefixHitTokens"));
    metrics.count("flotilla_vision_cache_total", grown("visionCacheHits"), { outcome: "hit" });
    metrics.count("flotilla_vision_cache_total", grown("visionCacheMisses"), { outcome: "miss" });
    const prefix = { cache: "prefix" };
    metrics.count("flotilla_cache_evictions_total", grown("prefixEvictions"), prefix);
    const vision = { cache: "vision" };
    metrics.count("flotilla_cache_evictions_total", grown("visionEvictions"), vision);
    metrics.count("flotilla_draft_tokens_total", grown("draftsAccepted"), { outcome: "accepted" });
    metrics.count("flotilla_draft_tokens_total", grown("draftsRejected"), { outcome: "rejected" });
    for (const [name, value] of Object.entries(ratiosOf(counts))) {
      if (name === "drafts") metrics.set("flotilla_draft_acceptance_ratio", value);
      else metrics.set("flotilla_cache_hit_ratio", value, { cache: name });
    }
  }

  #disk(counts: DiskStoreCounts): void {
    const metrics = this.#metrics;
    const last = this.#stored;
    this.#stored = counts;
    metrics.set("flotilla_cache_bytes", counts.bytes, { cache: "disk" });
    const evicted = counts.evictions - (last?.evictions ?? 0);
    metrics.count("flotilla_cache_evictions_total", evicted, { cache: "disk" });
    for (const outcome of ["stored", "restored", "dropped", "corrupt", "failures"] as const) {
      const grown = counts[outcome] - (last?.[outcome] ?? 0);
      metrics.count("flotilla_disk_cache_total", grown, { outcome });
    }
  }

  /** One line on what the caches and speculation saved, when the engine closes. */
  summary(counts: SchedulerCounts, stored?: DiskStoreCounts): void {
    const { prefix, vision, drafts } = ratiosOf(counts);
    this.#log.info("engine closed", {
      promptTokens: counts.promptTokens,
      prefixSavedTokens: counts.prefixHitTokens,
      prefixHitRatio: rounded(prefix),
      prefixEvictedPages: counts.prefixEvictions,
      visionSavedTiles: counts.visionCacheHits,
      visionHitRatio: rounded(vision),
      visionEvictedTiles: counts.visionEvictions,
      draftsAccepted: counts.draftsAccepted,
      draftAcceptance: rounded(drafts),
      ...(stored && { disk: stored }),
    });
  }

  /** Seconds until a refused request has a chance: the time the queue takes to drain a place. */
  retryAfterSeconds(counts: SchedulerCounts): number {
    const lanes = Math.max(1, counts.runningSequences);
    const seconds = this.#meanRequestSeconds * (counts.waitingRequests + 1) / lanes;
    return Math.min(RETRY_SECONDS_MAX, Math.max(1, Math.ceil(seconds)));
  }
}

type CounterName =
  | "preemptions"
  | "prefixHitTokens"
  | "visionCacheHits"
  | "visionCacheMisses"
  | "prefixEvictions"
  | "visionEvictions"
  | "draftsAccepted"
  | "draftsRejected";

/** Shares since the engine started; 0 before anything was counted. */
function ratiosOf(counts: SchedulerCounts) {
  const share = (part: number, rest: number) => part === 0 ? 0 : part / (part + rest);
  return {
    prefix: share(counts.prefixHitTokens, counts.promptTokens - counts.prefixHitTokens),
    vision: share(counts.visionCacheHits, counts.visionCacheMisses),
    drafts: share(counts.draftsAccepted, counts.draftsRejected),
  };
}

function rounded(ratio: number): number {
  return Math.round(ratio * 1000) / 1000;
}
