/**
 * One panel as inline SVG: each curve as the mean of its neighbourhood over a band of what lies in it,
 * so that a log of any length is a picture of the same size. Colours are the page's.
 */
import { escapeHtml } from "@/escape_html.ts";
import type { Curve, Panel } from "./panels.ts";

const WIDTH = 440;
const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 22;
/** Neighbourhoods of a curve. */
const BINS = 150;
const TICKS = 5;

interface Bin {
  readonly x: number;
  readonly low: number;
  readonly mean: number;
  readonly high: number;
}

/** Means and extremes of equal runs of points. */
export function binsOf({ points }: Curve, count = BINS): Bin[] {
  const bins: Bin[] = [];
  const size = points.length / Math.min(count, points.length);
  for (let from = 0; Math.round(from) < points.length; from += size) {
    const part = points.slice(Math.round(from), Math.max(Math.round(from + size), from + 1));
    if (part.length === 0) continue;
    const values = part.map(([, value]) => value);
    bins.push({
      x: part.at(-1)![0],
      low: Math.min(...values),
      mean: values.reduce((sum, value) => sum + value, 0) / values.length,
      high: Math.max(...values),
    });
  }
  return bins;
}

/** Round numbers from `low` to `high`, about `TICKS` of them. */
export function ticksOf(low: number, high: number): number[] {
  const rough = (high - low) / TICKS;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const ticks: number[] = [];
  const first = Math.ceil(low / step - 1e-9);
  for (let i = first === 0 ? 0 : first; i * step <= high + step * 1e-9; i++) {
    ticks.push(i * step);
  }
  return ticks;
}

/** Powers of ten, or round numbers where there are fewer than two. */
function logTicks(low: number, high: number): number[] {
  const powers: number[] = [];
  for (let i = Math.ceil(Math.log10(low)); 10 ** i <= high; i++) powers.push(10 ** i);
  return powers.length >= 2 ? powers : ticksOf(low, high).filter((tick) => tick > 0);
}

export function numberText(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001 || size >= 1e9) return value.toExponential(1).replace(".0e", "e");
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 10_000) return `${Number((value / 1000).toPrecision(3))}k`;
  return `${Number(value.toPrecision(3))}`;
}

interface Axes {
  readonly x: (computed: number) => number;
  readonly y: (value: number) => number;
  readonly ticks: readonly number[];
}

function axesOf({ curves, scale, range }: Panel): Axes {
  const bins = curves.flatMap((curve) => binsOf(curve));
  const last = Math.max(1, ...bins.map(({ x }) => x));
  let low = Math.min(...bins.map(({ low }) => low), range?.[0] ?? Infinity);
  let high = Math.max(...bins.map(({ high }) => high), range?.[1] ?? -Infinity);
  const isLog = scale === "log" && high > 0;
  if (isLog) {
    const positive = bins.map(({ low }) => low).filter((value) => value > 0);
    low = Math.min(high, ...positive);
    if (low === high) [low, high] = [low / 2, high * 2];
  } else if (low === high) {
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  }
  const place = isLog ? Math.log : (value: number) => value;
  const [from, to] = [place(low), place(high)];
  const clamp = (value: number) => Math.min(1, Math.max(0, value));
  return {
    x: (computed) => LEFT + (WIDTH - LEFT - RIGHT) * computed / last,
    y: (value) => {
      const part = isLog && value <= 0 ? 0 : clamp((place(value) - from) / (to - from));
      return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part;
    },
    ticks: isLog ? logTicks(low, high) : ticksOf(low, high),
  };
}

const at = (x: number, y: number) => `${x.toFixed(1)},${y.toFixed(1)}`;

function drawCurve(curve: Curve, { x, y }: Axes, tone: number): string {
  const bins = binsOf(curve);
  const line = bins.map((bin) => at(x(bin.x), y(bin.mean))).join(" ");
  if (bins.length === 1) {
    const [bin] = bins;
    return `<circle class="tone${tone}" cx="${x(bin!.x).toFixed(1)}" cy="${
      y(bin!.mean).toFixed(1)
    }" r="2.5"/>`;
  }
  const upper = bins.map((bin) => at(x(bin.x), y(bin.high)));
  const lower = bins.map((bin) => at(x(bin.x), y(bin.low))).reverse();
  return `<polygon class="band tone${tone}" points="${[...upper, ...lower].join(" ")}"/>` +
    `<polyline class="line tone${tone}" points="${line}"/>`;
}

/** A panel's picture; its title and legend are the page's. */
export function panelSvg(panel: Panel): string {
  const axes = axesOf(panel);
  const parts: string[] = [];
  for (const tick of axes.ticks) {
    const y = axes.y(tick).toFixed(1);
    parts.push(
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/>`,
      `<text x="${LEFT - 6}" y="${y}" dy="0.32em" text-anchor="end">${numberText(tick)}</text>`,
    );
  }
  const last = Math.max(1, ...panel.curves.flatMap(({ points }) => points.at(-1)![0]));
  for (const tick of ticksOf(0, last).filter((tick) => tick > 0 && Number.isInteger(tick))) {
    const x = axes.x(tick).toFixed(1);
    parts.push(`<text x="${x}" y="${HEIGHT - 6}" text-anchor="middle">${numberText(tick)}</text>`);
  }
  parts.push(...panel.curves.map((curve, i) => drawCurve(curve, axes, i % 4)));
  for (const { computed, tone, text } of panel.marks) {
    const x = axes.x(computed).toFixed(1);
    parts.push(
      `<g class="mark ${tone}"><title>${escapeHtml(text)}</title>` +
        `<line x1="${x}" x2="${x}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>` +
        `<circle cx="${x}" cy="${TOP}" r="3"/></g>`,
    );
  }
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${
    escapeHtml(panel.title)
  }">${parts.join("")}</svg>`;
}
