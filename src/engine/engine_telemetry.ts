/** What the engine tells the outside about itself: metrics, log lines, an estimate of waiting time. */
import type { Clock } from "@/clock.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
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
  #counted = { preemptions: 0, prefixHitTokens: 0, visionCacheHits: 0, visionCacheMisses: 0 };
  #meanRequestSeconds = 1;

  constructor(args: { clock: Clock; metrics: Metrics; log: Logger }) {
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

  lost(error: unknown): void {
    this.#metrics.count("flotilla_engine_errors_total");
    this.#log.error("engine lost: no more requests are taken", { error });
  }

  /** Copies the scheduler's counts into the metrics. */
  counts(counts: SchedulerCounts): void {
    const metrics = this.#metrics;
    metrics.set("flotilla_queue_requests", counts.waitingRequests);
    metrics.set("flotilla_running_sequences", counts.runningSequences);
    const { kvPagesTotal, kvPagesFree: free, kvPagesCached: cached } = counts;
    metrics.set("flotilla_kv_pages", free, { state: "free" });
    metrics.set("flotilla_kv_pages", cached, { state: "cached" });
    metrics.set("flotilla_kv_pages", kvPagesTotal - free - cached, { state: "used" });
    const last = this.#counted;
    const { preemptions, prefixHitTokens, visionCacheHits, visionCacheMisses } = counts;
    this.#counted = { preemptions, prefixHitTokens, visionCacheHits, visionCacheMisses };
    metrics.count("flotilla_preemptions_total", preemptions - last.preemptions);
    metrics.count("flotilla_prefix_hit_tokens_total", prefixHitTokens - last.prefixHitTokens);
    const hits = visionCacheHits - last.visionCacheHits;
    metrics.count("flotilla_vision_cache_total", hits, { outcome: "hit" });
    const misses = visionCacheMisses - last.visionCacheMisses;
    metrics.count("flotilla_vision_cache_total", misses, { outcome: "miss" });
  }

  /** Seconds until a refused request has a chance: the time the queue takes to drain a place. */
  retryAfterSeconds(counts: SchedulerCounts): number {
    const lanes = Math.max(1, counts.runningSequences);
    const seconds = this.#meanRequestSeconds * (counts.waitingRequests + 1) / lanes;
    return Math.min(RETRY_SECONDS_MAX, Math.max(1, Math.ceil(seconds)));
  }
}
