/**
 * What a benchmark says, as data: rows with their samples, limits and peers, and the machine they
 * come from. Schema, statistics and validation; no measuring, no formatting.
 */
import { assert } from "@/assert.ts";

/** Raised when a field changes its meaning. */
export const REPORT_SCHEMA = "flotilla-bench/1";

/** Spread of repeated measurements, in the row's unit. */
export interface Samples {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** One measured quantity. Names are stable: scripts compare runs by them. */
export interface Row {
  /** e.g. "decode/1.7b/q4/b1". */
  readonly name: string;
  /** Median of the samples. */
  readonly value: number;
  readonly unit: string;
  /** Which direction is good. */
  readonly better: "more" | "less";
  readonly samples: Samples;
  /** WASM read bandwidth just before and after this row, in GB/s. */
  readonly readGBs?: number;
  /** What the machine allows at most, in the row's unit. */
  readonly limit?: number;
  /** Where the limit comes from, e.g. "limits/read". */
  readonly limitName?: string;
  /** How much of the limit is reached, 1 = all of it. */
  readonly fraction?: number;
  /** Another engine, measured on the same machine in the same run; in its row, ours is the ratio. */
  readonly peer?: string;
  readonly peerValue?: number;
  /** How many times as good as the peer we are. */
  readonly ratio?: number;
  readonly goals?: readonly Goal[];
  /** What the numbers include, when the name does not say it. */
  readonly note?: string;
}

/** What a row should reach; of a value where less is better, `floor` is the most it may be. */
export interface Goal {
  readonly judged: "value" | "fraction" | "ratio";
  readonly floor: number;
  readonly aim?: number;
  readonly met: boolean;
}

/** The machine and the build behind a report. */
export interface Environment {
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly seconds: number;
  readonly commit: string;
  readonly deno: string;
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly threads: number;
  readonly kernels: string;
  /** One-minute load average at start and end. */
  readonly load: readonly [number, number];
  /** Reasons to doubt the numbers. */
  readonly warnings: readonly string[];
}

export interface Report {
  readonly schema: typeof REPORT_SCHEMA;
  readonly environment: Environment;
  readonly rows: readonly Row[];
}

/** Min, median and max; the median of an even count is the mean of the middle two. */
export function summarize(values: readonly number[]): Samples {
  assert(values.length > 0, "samples of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
  return { count: sorted.length, min: sorted[0]!, median, max: sorted.at(-1)! };
}

/** Facts of a row beside its samples. */
export type RowFacts = Pick<Row, "name" | "unit" | "better" | "note" | "limitName" | "limit">;

/** A row from its samples; with a limit also the fraction of it. */
export function rowOf(facts: RowFacts, values: readonly number[]): Row {
  const samples = summarize(values);
  const row = { ...facts, value: samples.median, samples };
  if (facts.limit === undefined) return row;
  return { ...row, fraction: asGoodAs(row, facts.limit) };
}

/** How many times as good the row is as `other`, in its own unit. */
export function asGoodAs(row: Pick<Row, "value" | "better">, other: number): number {
  return row.better === "more" ? row.value / other : other / row.value;
}

/** How many times as good each sample of a row is as what was measured beside it: the median. */
export function medianRatio(
  row: { readonly better: Row["better"]; readonly values: readonly number[] },
  others: readonly number[],
): number {
  const { better, values } = row;
  return summarize(others.map((other, i) => asGoodAs({ value: values[i]!, better }, other))).median;
}

/** The row beside a peer's value of the same quantity, with a ratio that may be known better. */
export function besidePeer(
  row: Row,
  { name, value, ratio = asGoodAs(row, value) }: { name: string; value: number; ratio?: number },
): Row {
  return { ...row, peer: name, peerValue: value, ratio };
}

/** Parses a report. Throws TypeError that names the first wrong field. */
export function parseReport(text: string): Report {
  const report = JSON.parse(text) as Partial<Report>;
  if (report.schema !== REPORT_SCHEMA) {
    throw new TypeError(`Report has schema ${report.schema}, expected ${REPORT_SCHEMA}`);
  }
  if (!Array.isArray(report.rows)) throw new TypeError("Report has no rows");
  const names = new Set<string>();
  for (const row of report.rows as Row[]) {
    const problem = rowProblem(row) ?? (names.has(row.name) ? "stands twice" : undefined);
    if (problem) throw new TypeError(`Row ${row.name}: ${problem}`);
    names.add(row.name);
  }
  const { environment } = report;
  if (typeof environment?.date !== "string" || typeof environment.cpu !== "string") {
    throw new TypeError("Report says neither when nor where it was measured");
  }
  return report as Report;
}

const ROW_NAME = /^[a-z][a-z0-9.-]*(\/[a-z0-9._-]+)+$/;

function rowProblem(row: Row): string | undefined {
  if (typeof row.name !== "string" || !ROW_NAME.test(row.name)) return "is no row name";
  if (typeof row.unit !== "string" || row.unit === "") return "unit is missing";
  if (row.better !== "more" && row.better !== "less") return `better is ${row.better}`;
  for (const key of ["value", "limit", "fraction", "peerValue", "ratio", "readGBs"] as const) {
    const value: unknown = row[key];
    if (value === undefined && key !== "value") continue;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
      return `${key} is ${value}`;
    }
  }
  const { count, min, median, max } = row.samples ?? {};
  if (!(count >= 1 && min <= median && median <= max)) return "samples are out of order";
  return undefined;
}
