import assert from "node:assert/strict";
import type { EndedSpan } from "@/telemetry/trace.ts";
import { layerTimesOf } from "./shard_times.ts";

function span(startEpochMs: number, endEpochMs: number, rest: Partial<EndedSpan> = {}): EndedSpan {
  return { name: "call", startEpochMs, endEpochMs, attributes: {}, ...rest };
}

function answer(startMs: number, endMs: number, [queue, compute]: [number, number]): EndedSpan {
  const attributes = { "flotilla.queue_ms": queue, "flotilla.compute_ms": compute };
  return span(startMs, endMs, { attributes });
}

Deno.test("layerTimesOf() takes what the slowest shard computes when each has a core", () => {
  const children = [answer(1, 6, [0, 4]), answer(1, 8, [1, 3])];
  const times = layerTimesOf(span(0, 9, { children }), 2);
  assert.deepEqual(times, {
    ...{ blocked: 9, compute: 4, wire: 2, wait: 3, wireAndWait: 5 },
    ...{ lastCompute: 3, computeOfAll: 7, besideLast: 6, nodes: 2 },
  });
});

Deno.test("layerTimesOf() counts others' turns on the cores as computing", () => {
  // Four shards take turns on two cores: the last ones begin when the first are done.
  const children = [3, 3, 6, 6].map((ms) => answer(0.5, ms + 0.5, [0, 3]));
  const times = layerTimesOf(span(0, 7, { children }), 2);
  assert.deepEqual([times.compute, times.wireAndWait, times.besideLast], [6, 1, 4]);
  assert.equal(times.compute + times.wire + times.wait, times.blocked);
  assert.equal(layerTimesOf(span(0, 7, { children }), 8).wireAndWait, 4, "with a core for each");
});

Deno.test("layerTimesOf() never computes for longer than the call is blocked", () => {
  const times = layerTimesOf(span(0, 2, { children: [answer(0, 2, [0, 2.5])] }), 1);
  assert.deepEqual([times.compute, times.wire, times.wait], [2, 0, 0]);
});
