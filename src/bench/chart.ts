/**
 * The chart of a report as SVG: a bar for each row's fraction of its limit, and one for each ratio
 * to a peer. Readable on light and dark pages.
 */
import { escapeHtml } from "@/escape_html.ts";
import type { Report, Row } from "./report.ts";
import { shortNumber } from "@/text_table.ts";

const WIDTH = 940;
const LABEL_WIDTH = 260;
const BAR_WIDTH = 380;
const LINE = 24;
const BAR_HEIGHT = 14;
const TOP = 64;

interface Bar {
  readonly label: string;
  /** Length, 1 = the full mark. */
  readonly length: number;
  readonly text: string;
  readonly tone: "limit" | "peer" | "missed";
}

interface Section {
  readonly title: string;
  /** What the full mark stands for. */
  readonly mark: string;
  readonly bars: readonly Bar[];
}

const missed = (row: Row, judged: string) =>
  row.goals?.some((goal) => goal.judged === judged && !goal.met) ?? false;

function sections(rows: readonly Row[]): Section[] {
  const fractions = rows.flatMap((row): Bar[] => {
    const { name, fraction, value, unit, limitName } = row;
    if (fraction === undefined) return [];
    const text = `${Math.round(100 * fraction)} % of ${limitName} · ${shortNumber(value)} ${unit}`;
    const tone = missed(row, "fraction") ? "missed" : "limit";
    return [{ label: name, length: fraction, text, tone }];
  });
  const compared = rows.filter((row) => row.ratio !== undefined && row.peer !== undefined);
  const ratios = compared.map((row): Bar => {
    const text = `${row.ratio!.toFixed(2)}× ${row.peer} · ${shortNumber(row.value)} ${row.unit}`;
    const tone = missed(row, "ratio") ? "missed" : "peer";
    return { label: row.name, length: row.ratio!, text, tone };
  });
  return [
    { title: "Fraction of what the machine allows", mark: "limit", bars: fractions },
    { title: "Speed beside other engines", mark: "equal", bars: ratios },
  ].filter(({ bars }) => bars.length > 0);
}

function text(
  at: { x: number; y: number; class: string; anchor?: "end" },
  content: string,
): string {
  const anchor = at.anchor ? ` text-anchor="${at.anchor}"` : "";
  return `<text x="${at.x}" y="${at.y}" class="${at.class}"${anchor}>${escapeHtml(content)}</text>`;
}

/** The name, the bar, and the values in a column of their own. */
function drawBar(bar: Bar, y: number, scale: number): string[] {
  const length = Math.max(2, Math.min(1, bar.length / scale) * BAR_WIDTH);
  const base = y + BAR_HEIGHT - 3;
  return [
    text({ x: LABEL_WIDTH - 8, y: base, class: "label", anchor: "end" }, bar.label),
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${length.toFixed(1)}" height="${BAR_HEIGHT}" ` +
    `rx="2" class="${bar.tone}"/>`,
    text({ x: LABEL_WIDTH + BAR_WIDTH + 12, y: base, class: "value" }, bar.text),
  ];
}

function drawSection(section: Section, top: number): { parts: string[]; bottom: number } {
  const { title, mark, bars } = section;
  const scale = Math.max(1, ...bars.map(({ length }) => length));
  const bottom = top + 20 + bars.length * LINE;
  const markX = (LABEL_WIDTH + BAR_WIDTH / scale).toFixed(1);
  const parts = [
    text({ x: 16, y: top, class: "title" }, title),
    text({ x: Number(markX), y: top + 8, class: "mark", anchor: "end" }, mark),
    `<line x1="${markX}" x2="${markX}" y1="${top + 12}" y2="${bottom}" class="axis"/>`,
    ...bars.flatMap((bar, index) => drawBar(bar, top + 18 + index * LINE, scale)),
  ];
  return { parts, bottom };
}

const style = `text{font:12px system-ui,sans-serif;fill:#24292f}
.heading{font-size:16px;font-weight:600}.title{font-size:13px;font-weight:600}
.value,.mark,.small{fill:#57606a;font-size:11px}.axis{stroke:#8c959f;stroke-dasharray:3 3}
.limit{fill:#2f7d6d}.peer{fill:#3b6fb5}.missed{fill:#c2572b}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.value,.mark,.small{fill:#9198a1}
.axis{stroke:#656c76}.limit{fill:#4fb39f}.peer{fill:#6ea3e6}.missed{fill:#e8825a}}`;

/** The whole picture. */
export function chartSvg({ environment, rows }: Report): string {
  const parts: string[] = [];
  let bottom = TOP - 12;
  for (const section of sections(rows)) {
    const drawn = drawSection(section, bottom + 24);
    parts.push(...drawn.parts);
    bottom = drawn.bottom;
  }
  const height = bottom + 20;
  const { date, cpu, threads, commit } = environment;
  const where = `${date.slice(0, 10)} · ${cpu} · ${threads} threads · ${commit}`;
  const subtitle = `${where} · orange: below the floor`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" ` +
    `height="${height}" role="img" aria-label="Benchmark results">`,
    `<style>${style}</style>`,
    text({ x: 16, y: 26, class: "heading" }, "Flotilla benchmark"),
    text({ x: 16, y: 44, class: "small" }, subtitle),
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}
