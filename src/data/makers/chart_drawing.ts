/** Renders chart specifications: axes, ticks, names, and the eight kinds of marks. */
import type { Dice } from "../dice.ts";
import { type Box, Canvas, ellipsePolygon, slicePolygon } from "../drawing/canvas.ts";
import { BLACK, luma, type Rgb, shadeOf, WHITE } from "../drawing/colour.ts";
import type { Face } from "../lettering/face.ts";
import { boundsOf, movedBy, setLine } from "../lettering/text_line.ts";
import type { ChartSpec } from "./chart_spec.ts";
import type { Mark, Rank } from "./sample.ts";

const GREY: Rgb = [205, 205, 205];

/** Part of a slot's width that is marked as its value's end, as broad as a bar. */
const END_SHARE = 0.62;

/** Text anchored at a point: `x` and `y` say which part of it stands there, 0 start, 1 end. */
export function drawText(
  canvas: Canvas,
  text: string,
  { x, y, anchorX = 0.5, anchorY = 0.5, face, size, ink = BLACK }: {
    x: number;
    y: number;
    anchorX?: number;
    anchorY?: number;
    face: Face;
    size: number;
    ink?: Rgb;
  },
): void {
  const line = setLine(text, { face, size });
  const height = size * 0.72;
  const left = x - line.advance * anchorX;
  const baseline = y + height * (1 - anchorY);
  for (const { polygons, character, index } of line.letters) {
    const moved = movedBy(polygons, left, baseline);
    canvas.fill(moved, ink);
    canvas.letters.push({ character, index, box: boundsOf(moved) });
  }
}

/** The marks of all text that `drawText` put on a picture, as far as it is visible. */
export function textMarks({ letters, width, height }: Canvas, picture: number): Mark[] {
  return letters
    .filter(({ box }) => box.left < width && box.right > 0 && box.top < height && box.bottom > 0)
    .map(({ character, index, box }) => ({
      kind: "letter",
      picture,
      box,
      label: character,
      order: index + 1,
    }));
}

/** Everything a chart's parts share while it is drawn. */
interface Frame {
  readonly canvas: Canvas;
  readonly spec: ChartSpec;
  readonly face: Face;
  readonly size: number;
  /** The plotting area. */
  readonly area: Box;
  readonly colours: readonly Rgb[];
}

/** The chart as a picture of the given size, and the marks of its text and its categories. */
export function drawChart(
  spec: ChartSpec,
  { width, height, face, dice }: { width: number; height: number; face: Face; dice: Dice },
): { canvas: Canvas; marks: Mark[] } {
  const canvas = new Canvas(width, height, WHITE);
  const size = Math.min(width, height) * dice.between(0.062, 0.085);
  const titleHeight = spec.title === undefined ? size * 0.5 : size * 2;
  const area: Box = {
    left: spec.horizontal || spec.kind === "heatmap" ? width * 0.2 : width * 0.14,
    top: titleHeight,
    right: width * 0.96,
    bottom: height - size * 1.8,
  };
  const colours = spec.colours.map((name) => shadeOf(name, dice));
  const frame: Frame = { canvas, spec, face, size, area, colours };
  if (spec.title !== undefined) {
    drawText(canvas, spec.title, { x: width / 2, y: size, face, size: size * 1.15 });
  }
  if (spec.kind === "pie") drawPie(frame);
  else if (spec.kind === "heatmap") drawHeatmap(frame);
  else {
    drawAxes(frame);
    drawMarks(frame);
    const { left, top, right, bottom } = area;
    canvas.line([left, top, left, bottom, right, bottom], BLACK, 1.4);
  }
  return { canvas, marks: [...textMarks(canvas, 0), ...categoryMarks(frame)] };
}

/**
 * What belongs to a value along the axis: its whole slot, with the category's name, and the place
 * where its bar ends or its point stands.
 */
function categoryMarks(frame: Frame): Mark[] {
  const { canvas, spec, area } = frame;
  if (spec.kind === "pie") return [];
  return spec.values.flatMap((value, i) => {
    const [middle, width] = slotOf(frame, i);
    const [from, to] = [middle - width / 2, middle + width / 2];
    const [end, half] = [valueAt(frame, value), width * END_SHARE / 2];
    const what = {
      picture: 0,
      label: String(Math.round(10 * value / spec.axisMax)),
      order: i + 1,
    };
    const [slot, stop] = spec.horizontal
      ? [
        { left: 0, top: from, right: area.right, bottom: to },
        { left: end, top: middle - half, right: end, bottom: middle + half },
      ]
      : [
        { left: from, top: area.top, right: to, bottom: canvas.height },
        { left: middle - half, top: end, right: middle + half, bottom: end },
      ];
    return [
      { kind: "category", box: slot, rank: rankOf(value, spec.values), ...what },
      { kind: "end", box: stop, ...what },
    ] as const;
  });
}

/** How a value stands to all of its chart. */
export function rankOf(value: number, values: readonly number[]): Rank {
  if (value === Math.max(...values)) return "highest";
  return value === Math.min(...values) ? "lowest" : "between";
}

/** Pixel position of a value along the value axis. */
function valueAt({ spec, area }: Frame, value: number): number {
  const share = value / spec.axisMax;
  return spec.horizontal
    ? area.left + share * (area.right - area.left)
    : area.bottom - share * (area.bottom - area.top) * 0.97;
}

/** Middle of category `i`, and the width of each. */
function slotOf({ spec, area }: Frame, i: number): [middle: number, width: number] {
  const count = Math.max(1, spec.categories.length);
  if (spec.horizontal) {
    const step = (area.bottom - area.top) / count;
    return [area.top + (i + 0.5) * step, step];
  }
  const step = (area.right - area.left) / count;
  return [area.left + (i + 0.5) * step, step];
}

function drawAxes(frame: Frame): void {
  const { canvas, spec, face, size, area } = frame;
  const small = size * 0.85;
  for (let tick = 0; tick <= spec.axisMax + 1e-9; tick += spec.tickStep) {
    const at = valueAt(frame, tick);
    const text = String(Math.round(tick * 10) / 10);
    if (spec.horizontal) {
      if (spec.grid) canvas.line([at, area.top, at, area.bottom], GREY, 1);
      drawText(canvas, text, { x: at, y: area.bottom + size * 0.9, face, size: small });
    } else {
      if (spec.grid) canvas.line([area.left, at, area.right, at], GREY, 1);
      canvas.line([area.left - 3, at, area.left, at], BLACK, 1);
      drawText(canvas, text, { x: area.left - 5, y: at, anchorX: 1, face, size: small });
    }
  }
  if (spec.kind === "scatter") return;
  for (const [i, name] of spec.categories.entries()) {
    const [middle] = slotOf(frame, i);
    if (spec.horizontal) {
      drawText(canvas, name, { x: area.left - 4, y: middle, anchorX: 1, face, size: small });
    } else {
      drawName(frame, i);
    }
  }
}

/** A category's name below its place, small enough to fit there. */
function drawName(frame: Frame, i: number): void {
  const { canvas, spec, face, size, area } = frame;
  const [x, width] = slotOf(frame, i);
  const name = spec.categories[i]!;
  const usual = size * 0.85;
  const fit = width * 0.95 / setLine(name, { face, size: usual }).advance;
  const y = area.bottom + size * 0.9;
  drawText(canvas, name, { x, y, face, size: usual * Math.min(1, fit) });
}

function drawMarks(frame: Frame): void {
  switch (frame.spec.kind) {
    case "bar":
      return drawBars(frame, END_SHARE);
    case "histogram":
      return drawBars(frame, 1);
    case "line":
      return drawLine(frame, false);
    case "area":
      return drawLine(frame, true);
    case "scatter":
      return drawScatter(frame);
    default:
      return drawBoxes(frame);
  }
}

function colourOf({ colours }: Frame, i: number): Rgb {
  return colours[i % colours.length]!;
}

function drawBars(frame: Frame, share: number): void {
  const { canvas, spec, face, size } = frame;
  for (const [i, value] of spec.values.entries()) {
    const [middle, width] = slotOf(frame, i);
    const half = width * share / 2;
    const [zero, end] = [valueAt(frame, 0), valueAt(frame, value)];
    const box = spec.horizontal
      ? { left: zero, top: middle - half, right: end, bottom: middle + half }
      : { left: middle - half, top: end, right: middle + half, bottom: zero };
    const colour = spec.kind === "histogram" ? colourOf(frame, 0) : colourOf(frame, i);
    canvas.fillBox(box, colour);
    if (spec.kind === "histogram") canvas.strokeBox(box, WHITE, 1);
    if (!spec.printed) continue;
    const place = spec.horizontal
      ? { x: end + 3, y: middle, anchorX: end > frame.area.right - size * 1.6 ? 1.3 : 0 }
      : { x: middle, y: Math.max(frame.area.top * 0.4, end - size * 0.55) };
    drawText(canvas, String(value), { ...place, face, size: size * 0.85 });
  }
}

function drawLine(frame: Frame, filled: boolean): void {
  const { canvas, spec, face, size, area } = frame;
  const points = spec.values.flatMap((value, i) => [slotOf(frame, i)[0], valueAt(frame, value)]);
  const colour = colourOf(frame, 0);
  if (filled) {
    canvas.fill([[points[0]!, area.bottom, ...points, points.at(-2)!, area.bottom]], colour, 0.6);
  }
  canvas.line(points, colour, 2.4);
  for (let i = 0; i < spec.values.length; i++) {
    const [x, y] = [points[2 * i]!, points[2 * i + 1]!];
    canvas.fill([ellipsePolygon({ x, y, rx: 3.4, ry: 3.4 })], colour);
    if (spec.printed) {
      const above = Math.max(area.top * 0.4, y - size * 0.75);
      drawText(canvas, String(spec.values[i]), { x, y: above, face, size: size * 0.85 });
    }
  }
}

function drawScatter(frame: Frame): void {
  const { canvas, spec, area } = frame;
  for (const [share, value] of spec.points) {
    const x = area.left + share * (area.right - area.left);
    const y = valueAt(frame, value);
    canvas.fill([ellipsePolygon({ x, y, rx: 4.2, ry: 4.2 })], colourOf(frame, 0));
  }
}

function drawBoxes(frame: Frame): void {
  const { canvas, spec } = frame;
  for (const [i, numbers] of spec.boxes.entries()) {
    const [middle, width] = slotOf(frame, i);
    const half = width * 0.28;
    const [low, first, median, third, high] = [
      numbers.low,
      numbers.firstQuartile,
      numbers.median,
      numbers.thirdQuartile,
      numbers.high,
    ].map((value) => valueAt(frame, value)) as [number, number, number, number, number];
    canvas.line([middle, low, middle, high], BLACK, 1.3);
    for (const y of [low, high]) {
      canvas.line([middle - half * 0.5, y, middle + half * 0.5, y], BLACK, 1.3);
    }
    const box = { left: middle - half, top: third, right: middle + half, bottom: first };
    canvas.fillBox(box, colourOf(frame, i));
    canvas.strokeBox(box, BLACK, 1.3);
    canvas.line([middle - half, median, middle + half, median], BLACK, 2.2);
  }
}

function drawPie(frame: Frame): void {
  const { canvas, spec, face, size, area } = frame;
  const radius = Math.min(canvas.width, area.bottom + size - area.top) * 0.36;
  const [x, y] = [canvas.width / 2, area.top + (area.bottom + size - area.top) / 2];
  const total = spec.values.reduce((sum, value) => sum + value, 0);
  let from = -Math.PI / 2;
  for (const [i, value] of spec.values.entries()) {
    const to = from + 2 * Math.PI * value / total;
    const colour = colourOf(frame, i);
    canvas.fill([slicePolygon({ x, y, radius, from, to })], colour);
    const middle = (from + to) / 2;
    const [c, s] = [Math.cos(middle), Math.sin(middle)];
    canvas.line([x, y, x + radius * Math.cos(from), y + radius * Math.sin(from)], WHITE, 1.4);
    drawText(canvas, spec.categories[i]!, {
      x: x + c * radius * 1.12,
      y: y + s * (radius * 1.12 + size * 0.3),
      anchorX: 0.5 - c * 0.5,
      face,
      size: size * 0.85,
    });
    if (to - from > 0.35) {
      drawText(canvas, String(value), {
        x: x + c * radius * 0.62,
        y: y + s * radius * 0.62,
        face,
        size: size * 0.85,
        ink: luma(colour) > 140 ? BLACK : WHITE,
      });
    }
    from = to;
  }
}

function drawHeatmap(frame: Frame): void {
  const { canvas, spec, face, size, area } = frame;
  const rows = spec.cells.length;
  const height = (area.bottom - area.top) / rows;
  const deep = colourOf(frame, 0);
  for (const [row, cells] of spec.cells.entries()) {
    const y = area.top + row * height;
    drawText(canvas, spec.rowNames[row]!, {
      x: area.left - 6,
      y: y + height / 2,
      anchorX: 1,
      face,
      size: size * 0.85,
    });
    for (const [column, value] of cells.entries()) {
      const [middle, width] = slotOf(frame, column);
      const share = value / 9;
      const colour = deep.map((v) => Math.round(255 + (v - 255) * share)) as unknown as Rgb;
      const box = {
        left: middle - width / 2,
        top: y,
        right: middle + width / 2,
        bottom: y + height,
      };
      canvas.fillBox(box, colour);
      const ink = luma(colour) > 140 ? BLACK : WHITE;
      drawText(canvas, String(value), { x: middle, y: y + height / 2, face, size, ink });
    }
  }
  for (let i = 0; i < spec.categories.length; i++) {
    drawName(frame, i);
  }
}
