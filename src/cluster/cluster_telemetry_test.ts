import assert from "node:assert/strict";
import { Metrics } from "@/telemetry/metrics.ts";
import type { EndedSpan } from "@/telemetry/trace.ts";
import { ClusterTelemetry } from "./cluster_telemetry.ts";

const counts = { sent: 2, hedgedRows: 3, retries: 1, fallbacks: 0 };

function scene(spans?: EndedSpan[]) {
  const now = { ms: 10 };
  const clock = { nowMs: () => now.ms, epochMs: () => 1000 + now.ms };
  const metrics = new Metrics();
  const tracer = spans && { record: (span: EndedSpan) => void spans.push(span) };
  return { now, metrics, telemetry: new ClusterTelemetry({ clock, metrics, tracer }) };
}

Deno.test("ClusterTelemetry counts calls and times them by node", () => {
  const { now, metrics, telemetry } = scene();
  const layer = telemetry.layer({ layer: 3, step: 9, rows: 8 });
  const first = layer.sent("a", "first", 5);
  const second = layer.sent("b", "hedge", 3);
  now.ms += 4;
  first({ outcome: "result", queueMs: 1, computeMs: 2 });
  second({ outcome: "refusal", reason: "wrong_epoch" });
  layer.ended(counts);
  assert.deepEqual(telemetry.totals, {
    ...{ layers: 1, failures: 0, calls: 2, retries: 1, hedgedRows: 3, fallbacks: 0 },
  });
  assert.deepEqual(telemetry.roundTripsOf("a"), { p50Ms: 4, p95Ms: 4, p99Ms: 4 });
  assert.equal(telemetry.roundTripsOf("b"), undefined);
  const { hedge, rows, refusals } = telemetry.callsOf("b");
  assert.deepEqual([hedge, rows, refusals], [1, 3, 1]);
  assert.equal(metrics.value("flotilla_cluster_round_trip_seconds", { node: "a" }), 0.004);
  const compute = { node: "a", part: "compute" };
  assert.equal(metrics.value("flotilla_cluster_shard_seconds_total", compute), 0.002);
  assert.equal(metrics.value("flotilla_cluster_calls_total", { node: "b", reason: "hedge" }), 1);
});

Deno.test("ClusterTelemetry records a span per layer with its calls inside", () => {
  const spans: EndedSpan[] = [];
  const { now, telemetry } = scene(spans);
  const layer = telemetry.layer({ layer: 3, step: 9, rows: 8 });
  const call = layer.sent("a", "first", 8);
  now.ms += 2;
  call({ outcome: "lost", reason: "closed" });
  now.ms += 1;
  layer.ended(counts, new Error("nobody answers"));
  const [span] = spans;
  assert.deepEqual([span!.name, span!.startEpochMs, span!.endEpochMs, span!.error], [
    ...["flotilla.cluster.layer", 1010, 1013, "nobody answers"],
  ]);
  assert.equal(span!.attributes["flotilla.layer"], 3);
  const [inside] = span!.children!;
  assert.deepEqual([inside!.startEpochMs, inside!.endEpochMs, inside!.error], [
    ...[1010, 1012, "lost: closed"],
  ]);
});
