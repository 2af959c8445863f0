/** A report as a table for the terminal and as the Markdown page of results. */
import { shortNumber, textTable } from "@/text_table.ts";
import type { Goal, Report, Row } from "./report.ts";

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function spread({ samples, unit }: Row): string {
  if (samples.count === 1) return "";
  return `${shortNumber(samples.min)}–${shortNumber(samples.max)} ${unit}`;
}

function limitText({ fraction, limitName }: Row): string {
  return fraction === undefined ? "" : `${percent(fraction)} of ${limitName}`;
}

function peerText({ name, peer, peerValue, ratio }: Row): string {
  if (ratio === undefined) return "";
  const times = `${ratio.toFixed(2)}×`;
  if (name.startsWith("peer/")) return `ours ${times}`;
  return `${times} ${peer} (${shortNumber(peerValue!)})`;
}

function goalText(goals: readonly Goal[] | undefined): string {
  return (goals ?? []).map(({ judged, floor, aim, met }) => {
    const show = judged === "fraction" ? percent : (value: number) => shortNumber(value);
    const aims = aim === undefined ? "" : `, aim ${show(aim)}`;
    return `${met ? "met" : "MISSED"}: ${judged} ${show(floor)}${aims}`;
  }).join("; ");
}

const columns: readonly { head: string; right?: boolean; cell: (row: Row) => string }[] = [
  { head: "row", cell: (row) => row.name },
  { head: "median", right: true, cell: (row) => shortNumber(row.value) },
  { head: "unit", cell: (row) => row.unit },
  { head: "min–max", cell: spread },
  { head: "GB/s", right: true, cell: (row) => row.readGBs ? shortNumber(row.readGBs) : "" },
  { head: "of the limit", cell: limitText },
  { head: "beside", cell: peerText },
  { head: "floor and aim", cell: (row) => goalText(row.goals) },
];

/** Lines of the terminal's table. */
export function tableLines(rows: readonly Row[]): string[] {
  const right = new Set(columns.flatMap(({ right }, i) => right ? [i] : []));
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  return textTable([columns.map(({ head }) => head), ...cells], right);
}

/** Where and how a report was measured, one fact per line. */
export function environmentLines({ environment }: Report): string[] {
  const { date, seconds, commit, deno, platform, cpu, cores, memoryGiB, threads } = environment;
  const [first, last] = environment.load;
  return [
    `${date.slice(0, 16).replace("T", " ")} UTC, ${seconds} s, commit ${commit}`,
    `${cpu}, ${cores} cores, ${memoryGiB} GiB, ${platform}, Deno ${deno}`,
    `${threads} threads, ${environment.kernels}`,
    `load average ${first.toFixed(1)} at the start, ${last.toFixed(1)} at the end`,
    ...environment.warnings.map((warning) => `warning: ${warning}`),
  ];
}

/** The page of results. `chart` is the chart's file name beside it. */
export function resultsPage(report: Report, chart: string): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |`;
  const marks = columns.map(({ right }) => right ? "---:" : "---");
  return [
    "# Results",
    "",
    "Written by `deno task bench --results FILE.json`; [README.md](README.md) says what the rows mean.",
    "",
    ...environmentLines(report).map((text) => `- ${text}`),
    "",
    `![Fractions of the machine's limits, and ratios to other engines](${chart})`,
    "",
    line(columns.map(({ head }) => head)),
    line(marks),
    ...report.rows.map((row) => line(columns.map((column) => column.cell(row)))),
    "",
  ].join("\n");
}
