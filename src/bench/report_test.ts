import assert from "node:assert/strict";
import { withGoals } from "./goals.ts";
import { besidePeer, parseReport, REPORT_SCHEMA, type Row, rowOf, summarize } from "./report.ts";

const speed = { name: "decode/1.7b/q4/b1", unit: "tok/s", better: "more" as const };
const time = { name: "vit/tile/int8", unit: "s", better: "less" as const };

Deno.test("summarize() gives the middle value, or the mean of the middle two", () => {
  assert.deepEqual(summarize([3, 1, 2]), { count: 3, min: 1, median: 2, max: 3 });
  assert.deepEqual(summarize([4, 1]), { count: 2, min: 1, median: 2.5, max: 4 });
});

Deno.test("rowOf() holds speeds against a limit from below and times from above", () => {
  assert.equal(rowOf({ ...speed, limit: 40 }, [30]).fraction, 0.75);
  assert.equal(rowOf({ ...time, limit: 6 }, [8]).fraction, 0.75);
  assert.equal(rowOf(speed, [30]).fraction, undefined);
});

Deno.test("besidePeer() says how many times as good the row is", () => {
  assert.equal(besidePeer(rowOf(speed, [30]), { name: "llama.cpp", value: 20 }).ratio, 1.5);
  assert.equal(besidePeer(rowOf(time, [10]), { name: "onnxruntime-web", value: 25 }).ratio, 2.5);
});

Deno.test("withGoals() judges what a row has", () => {
  const row: Row = { ...rowOf({ ...speed, limit: 40 }, [30]), readGBs: 35 };
  assert.deepEqual(withGoals(row).goals, [
    { judged: "fraction", floor: 0.8, aim: 0.9, met: false },
  ]);
  const compared = withGoals(besidePeer(row, { name: "llama.cpp", value: 30 }));
  assert.deepEqual(compared.goals!.map(({ judged, met }) => [judged, met]), [
    ["ratio", true],
    ["fraction", false],
  ]);
});

Deno.test("withGoals() wants gigabytes per second of weights where the bandwidth is high", () => {
  const row: Row = { ...rowOf({ ...speed, limit: 60 }, [34]), readGBs: 60 };
  const [goal] = withGoals(besidePeer(row, { name: "llama.cpp", value: 60 })).goals!;
  assert.deepEqual(goal, { judged: "fraction", floor: 33 / 60, met: true });
});

Deno.test("withGoals() reads a floor as the most where less is better", () => {
  const overhead = { name: "step/overhead", unit: "%", better: "less" as const };
  assert.equal(withGoals(rowOf(overhead, [2])).goals![0]!.met, true);
  assert.equal(withGoals(rowOf(overhead, [4])).goals![0]!.met, false);
});

Deno.test("parseReport() refuses what is not a report", () => {
  const environment = { date: "2026-01-01T00:00:00Z", cpu: "a processor" };
  const text = (rows: unknown[]) => JSON.stringify({ schema: REPORT_SCHEMA, environment, rows });
  const row = rowOf(speed, [1]);
  assert.deepEqual(parseReport(text([row])).rows, [row]);
  assert.throws(() => parseReport(text([row, row])), /stands twice/);
  assert.throws(() => parseReport(text([{ ...row, fraction: 0 }])), /fraction is 0/);
  assert.throws(() => parseReport(text([{ ...row, name: "Decode" }])), /no row name/);
  assert.throws(() => parseReport(JSON.stringify({ schema: "another/1" })), /schema/);
});
