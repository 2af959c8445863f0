/** Every metric of the product: one row each. `/metrics`, help texts and types come from here. */

export interface MetricSpec {
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** Label names; every observation gives all of them. */
  readonly labels?: readonly string[];
  /** Upper bounds of histogram buckets, ascending; +Inf is added. */
  readonly buckets?: readonly number[];
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

export const metricSpecs = {
  flotilla_http_requests_total: {
    type: "counter",
    help: "HTTP answers by route pattern and status.",
    labels: ["route", "status"],
  },
  flotilla_http_request_seconds: {
    type: "histogram",
    help: "Time from request to the end of the answer.",
    labels: ["route"],
    buckets: SECONDS,
  },
  flotilla_queue_requests: { type: "gauge", help: "Requests of which nothing is running." },
  flotilla_running_sequences: { type: "gauge", help: "Sequences that hold KV pages." },
  flotilla_prompt_tokens_total: { type: "counter", help: "Prompt tokens of accepted requests." },
  flotilla_generated_tokens_total: { type: "counter", help: "Tokens sampled." },
  flotilla_computed_rows_total: {
    type: "counter",
    help: "Token rows that went through the decoder.",
  },
  flotilla_time_to_first_token_seconds: {
    type: "histogram",
    help: "Time from submission to a request's first token.",
    buckets: SECONDS,
  },
  flotilla_inter_token_seconds: {
    type: "histogram",
    help: "Time between two tokens of one choice, as the engine made them.",
    buckets: SECONDS,
  },
  flotilla_step_seconds: { type: "histogram", help: "Time of one engine step.", buckets: SECONDS },
  flotilla_step_rows: { type: "histogram", help: "Token rows of one engine step.", buckets: ROWS },
  flotilla_kv_pages: {
    type: "gauge",
    help: "KV pages by state: used by sequences, kept by the prefix cache alone, free.",
    labels: ["state"],
  },
  flotilla_prefix_hit_tokens_total: {
    type: "counter",
    help: "Prompt tokens taken from the prefix cache.",
  },
  flotilla_vision_cache_total: {
    type: "counter",
    help: "Tiles wanted by a prompt, by outcome: hit or miss (encoded).",
    labels: ["outcome"],
  },
  flotilla_cache_hit_ratio: {
    type: "gauge",
    help: "Share of prompt tokens (prefix) or tiles (vision) that were not computed, since start.",
    labels: ["cache"],
  },
  flotilla_cache_bytes: {
    type: "gauge",
    help: "Bytes kept: KV pages of no running sequence (prefix), encoded tiles (vision), disk.",
    labels: ["cache"],
  },
  flotilla_cache_evictions_total: {
    type: "counter",
    help: "KV pages (prefix), tiles (vision) or files (disk) given up for others.",
    labels: ["cache"],
  },
  flotilla_disk_cache_total: {
    type: "counter",
    help: "KV pages and tiles by what became of them: stored, restored, dropped (queue full), " +
      "corrupt (deleted), failures of the disk.",
    labels: ["outcome"],
  },
  flotilla_draft_tokens_total: {
    type: "counter",
    help: "Drafted tokens by outcome: accepted (equal to the draw) or rejected.",
    labels: ["outcome"],
  },
  flotilla_draft_acceptance_ratio: {
    type: "gauge",
    help: "Accepted share of the drafted tokens, since start.",
  },
  flotilla_preemptions_total: {
    type: "counter",
    help: "Sequences that gave their pages to an older one and are computed again later.",
  },
  flotilla_requests_finished_total: {
    type: "counter",
    help: "Requests by outcome: finished, cancelled, failed, or refused at submission.",
    labels: ["outcome"],
  },
  flotilla_engine_errors_total: { type: "counter", help: "Engine steps that failed." },
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof metricSpecs;

/** Names of metrics of one type. */
export type MetricNameOf<T extends MetricSpec["type"]> = {
  [N in MetricName]: (typeof metricSpecs)[N]["type"] extends T ? N : never;
}[MetricName];
