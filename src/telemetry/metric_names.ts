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
/** Of calls between nodes: a round trip on one machine takes tenths of a millisecond. */
const CALL_SECONDS = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
  10,
];
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
  flotilla_backend_fallbacks_total: {
    type: "counter",
    help: "Times that the wasm kernels took over from a GPU: at start, or when it was lost.",
    labels: ["when"],
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
  flotilla_cluster_calls_total: {
    type: "counter",
    help: "Calls sent to a shard by reason: first, retry (after failure or silence), hedge.",
    labels: ["node", "reason"],
  },
  flotilla_cluster_rows_total: {
    type: "counter",
    help: "(token, expert) rows sent to a shard.",
    labels: ["node"],
  },
  flotilla_cluster_answers_total: {
    type: "counter",
    help: "Calls that ended, by outcome: result, refusal, lost (no connection or no room).",
    labels: ["node", "outcome"],
  },
  flotilla_cluster_round_trip_seconds: {
    type: "histogram",
    help: "Time from sending a call to a shard to its result.",
    labels: ["node"],
    buckets: CALL_SECONDS,
  },
  flotilla_cluster_shard_seconds_total: {
    type: "counter",
    help: "Part of those times that the shard says it needed: queue, compute.",
    labels: ["node", "part"],
  },
  flotilla_cluster_layer_seconds: {
    type: "histogram",
    help: "Time of one layer's experts for one step: until the last shard has answered.",
    buckets: CALL_SECONDS,
  },
  flotilla_cluster_layer_failures_total: {
    type: "counter",
    help: "Layers that nobody computed: the running answers of the step failed.",
  },
  flotilla_cluster_fallbacks_total: {
    type: "counter",
    help: "Groups of experts that the front read from disk and computed itself.",
  },
  flotilla_cluster_hedged_rows_total: {
    type: "counter",
    help: "(token, expert) rows sent a second time because a shard was slow.",
  },
  flotilla_cluster_node_connected: {
    type: "gauge",
    help: "1 while a shard is connected.",
    labels: ["node"],
  },
  flotilla_cluster_node_draining: {
    type: "gauge",
    help: "1 while a shard gives its experts away.",
    labels: ["node"],
  },
  flotilla_cluster_circuit: {
    type: "gauge",
    help: "1 for the state of a shard's circuit breaker: closed, open, probing.",
    labels: ["node", "state"],
  },
  flotilla_cluster_heartbeat_seconds: {
    type: "gauge",
    help: "Smoothed round trip of a shard's heartbeats.",
    labels: ["node"],
  },
  flotilla_cluster_node_experts: {
    type: "gauge",
    help: "Experts of a shard: planned, held (loaded), capacity (that fit).",
    labels: ["node", "kind"],
  },
  flotilla_cluster_waiting_rows: {
    type: "gauge",
    help: "(token, expert) rows sent to a shard and not answered.",
    labels: ["node"],
  },
  flotilla_cluster_uncovered_experts: {
    type: "gauge",
    help: "Experts without a live owner.",
  },
  flotilla_cluster_single_experts: {
    type: "gauge",
    help: "Experts with one live owner: its loss uncovers them.",
  },
  flotilla_cluster_balance_ratio: {
    type: "gauge",
    help: "Largest over mean of the work that calls gave to the shards, by layer; 1 is even.",
    labels: ["layer"],
  },
  flotilla_cluster_planned_balance_ratio: {
    type: "gauge",
    help: "The same as the plan in force foresees it for the present load.",
    labels: ["layer"],
  },
  flotilla_cluster_activation_entropy: {
    type: "gauge",
    help: "Entropy of expert activation by layer, relative to even use: 0 to 1.",
    labels: ["layer"],
  },
  flotilla_cluster_epoch: { type: "gauge", help: "Epoch of the plan in force; 0 before one." },
  flotilla_cluster_plans_total: {
    type: "counter",
    help: "Plans by outcome: published, given_up (a shard made no progress).",
    labels: ["outcome"],
  },
  flotilla_cluster_moves_total: {
    type: "counter",
    help: "Experts that published plans gave to shards (copy) and took from them (drop).",
    labels: ["kind"],
  },
  flotilla_engine_errors_total: { type: "counter", help: "Engine steps that failed." },
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof metricSpecs;

/** Names of metrics of one type. */
export type MetricNameOf<T extends MetricSpec["type"]> = {
  [N in MetricName]: (typeof metricSpecs)[N]["type"] extends T ? N : never;
}[MetricName];
