import assert from "node:assert/strict";
import { chartSvg } from "./chart.ts";
import { withGoals } from "./goals.ts";
import { besidePeer, type Environment, type Report, REPORT_SCHEMA, rowOf } from "./report.ts";
import { shortNumber } from "@/text_table.ts";
import { environmentLines, resultsPage, tableLines } from "./table.ts";

const environment: Environment = {
  date: "2026-01-02T03:04:05.678Z",
  seconds: 61,
  commit: "0123456789",
  deno: "2.9.6",
  platform: "linux x86_64",
  cpu: "Processor <R> & Co",
  cores: 2,
  memoryGiB: 24,
  threads: 2,
  kernels: "relaxed-simd+threads",
  load: [0.1, 2.04],
  warnings: ["limits/read moved between 30 and 60 during the run"],
};

const decode = rowOf(
  { name: "decode/1.7b/q4/b1", unit: "tok/s", better: "more", limit: 40, limitName: "limits/read" },
  [29, 30, 31],
);
const report: Report = {
  schema: REPORT_SCHEMA,
  environment,
  rows: [
    rowOf({ name: "limits/read", unit: "GB/s", better: "more" }, [36]),
    withGoals(besidePeer({ ...decode, readGBs: 36 }, { name: "llama.cpp", value: 25 })),
  ],
};

Deno.test("chartSvg() is well-formed and draws each fraction and ratio", () => {
  const svg = chartSvg(report);
  const open: string[] = [];
  for (const [, close, name, selfClosed] of svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
    if (close) assert.equal(open.pop(), name);
    else if (!selfClosed) open.push(name!);
  }
  assert.deepEqual(open, []);
  assert.match(svg, /Processor &lt;R&gt; &amp; Co/);
  assert.match(svg, /75 % of limits\/read · 30\.0 tok\/s/);
  assert.match(svg, /1\.20× llama\.cpp/);
  assert.match(svg, /prefers-color-scheme:dark/);
  assert.equal(svg.match(/<rect/g)?.length, 2);
  assert.match(svg, /class="missed"/); // 75 % is below the floor
});

Deno.test("chartSvg() without a comparable row is a heading alone", () => {
  const svg = chartSvg({ ...report, rows: report.rows.slice(0, 1) });
  assert.doesNotMatch(svg, /<rect/);
});

Deno.test("tableLines() shows limit, peer and goals of a row", () => {
  const [head, first, second] = tableLines(report.rows) as [string, string, string];
  assert.match(head, /^row +median +unit/);
  assert.match(first, /^limits\/read +36\.0 +GB\/s$/);
  assert.match(second, /30\.0 +tok\/s +29\.0–31\.0 tok\/s +36\.0 +75 % of limits\/read/);
  assert.match(second, /1\.20× llama\.cpp \(25\.0\)/);
  assert.match(second, /met: ratio 0\.850, aim 1\.00; MISSED: fraction 80 %, aim 90 %$/);
});

Deno.test("resultsPage() names machine, commit and warnings, and shows every row", () => {
  const page = resultsPage(report, "results.svg");
  for (const line of environmentLines(report)) assert.ok(page.includes(`- ${line}`), line);
  assert.match(page, /commit 0123456789/);
  assert.match(page, /\(results\.svg\)/);
  assert.match(page, /\| decode\/1\.7b\/q4\/b1 \| 30\.0 \|/);
});

Deno.test("shortNumber() keeps three digits", () => {
  assert.deepEqual([1234.5, 35.55, 1.234, 0.0123].map(shortNumber), [
    "1235",
    "35.5",
    "1.23",
    "0.012",
  ]);
});
