import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { Metrics } from "./metrics.ts";

Deno.test("Metrics.render() writes counters, gauges and cumulative buckets", () => {
  const metrics = new Metrics();
  metrics.count("flotilla_http_requests_total", 2, { route: 'a"b', status: "200" });
  metrics.set("flotilla_queue_requests", 3);
  for (const rows of [1, 2, 2, 9999]) metrics.observe("flotilla_step_rows", rows);
  const lines = metrics.render().split("\n");
  assert.ok(lines.includes('flotilla_http_requests_total{route="a\\"b",status="200"} 2'));
  assert.ok(lines.includes("flotilla_queue_requests 3"));
  assert.ok(lines.includes("# TYPE flotilla_step_rows histogram"));
  assert.ok(lines.includes('flotilla_step_rows_bucket{le="1"} 1'));
  assert.ok(lines.includes('flotilla_step_rows_bucket{le="512"} 3'));
  assert.ok(lines.includes('flotilla_step_rows_bucket{le="+Inf"} 4'));
  assert.ok(lines.includes("flotilla_step_rows_sum 10004"));
  assert.ok(lines.includes("flotilla_step_rows_count 4"));
  assert.ok(lines.includes("flotilla_preemptions_total 0"), "counters start at zero");
});

Deno.test("Metrics.count() folds labels into one series when there are too many", () => {
  const metrics = new Metrics();
  for (let i = 0; i < limits.metricSeriesMax + 10; i++) {
    metrics.count("flotilla_http_requests_total", 1, { route: `/${i}`, status: "404" });
  }
  const other = { route: "other", status: "other" };
  assert.equal(metrics.value("flotilla_http_requests_total", other), 10);
});

Deno.test("Metrics.count() refuses wrong labels and negative amounts", () => {
  const metrics = new Metrics();
  assert.throws(() => metrics.count("flotilla_http_requests_total", 1, { route: "/" }), /labels/);
  assert.throws(() => metrics.count("flotilla_preemptions_total", -1), /cannot fall/);
});
