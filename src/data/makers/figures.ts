/** Coloured figures on a plain ground: their outlines, where they may stand, how they are painted. */
import type { Dice } from "../dice.ts";
import { Canvas, ellipsePolygon, linePolygons } from "../drawing/canvas.ts";
import { BLACK, type ColourName, type Rgb, shadeOf, WHITE } from "../drawing/colour.ts";
import type { Polygon } from "../drawing/scan_converter.ts";
import { spoil } from "../drawing/spoiling.ts";
import { lightBackground, pictureSize } from "./lettering_scene.ts";
import type { MakerSettings, Mark } from "./sample.ts";

export const shapeNames = [
  "circle",
  "square",
  "triangle",
  "star",
  "rectangle",
  "diamond",
  "heart",
  "cross",
] as const;

export type ShapeName = (typeof shapeNames)[number];

/** A figure inside the circle of `radius` around (x, y), in pixels. */
export interface Figure {
  readonly shape: ShapeName;
  readonly colour: ColourName;
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

type Spot = Pick<Figure, "x" | "y" | "radius">;

/** One closed outline. Lengths and turns vary within what people call by that name. */
export function outlineOf(shape: ShapeName, { x, y, radius }: Spot, dice: Dice): Polygon {
  const corners = (angles: readonly (readonly [angle: number, reach: number])[]) =>
    angles.flatMap(([angle, reach]) => [
      x + radius * reach * Math.cos(angle),
      y + radius * reach * Math.sin(angle),
    ]);
  const box = (a: number, b: number) => [x - a, y - b, x + a, y - b, x + a, y + b, x - a, y + b];
  switch (shape) {
    case "circle":
      return ellipsePolygon({ x, y, rx: radius, ry: radius });
    case "square": {
      const half = radius * dice.between(0.75, 0.98);
      return box(half, half);
    }
    case "rectangle": {
      const [long, short] = [radius * dice.between(0.85, 0.95), radius * dice.between(0.3, 0.5)];
      return dice.chance(0.4) ? box(short, long) : box(long, short);
    }
    case "triangle":
      return triangle({ x, y, radius }, dice);
    case "diamond": {
      const [a, b] = [radius * dice.between(0.6, 0.75), radius];
      return [x, y - b, x + a, y, x, y + b, x - a, y];
    }
    case "star":
      return corners(
        Array.from(
          { length: 10 },
          (_, i) => [-Math.PI / 2 + i * Math.PI / 5, i % 2 === 0 ? 1 : 0.42] as const,
        ),
      );
    case "heart":
      return Array.from({ length: 40 }, (_, i) => {
        const t = 2 * Math.PI * i / 40;
        const up = 13 * Math.cos(t) - 5 * Math.cos(2 * t) - 2 * Math.cos(3 * t) - Math.cos(4 * t);
        return [x + radius * 16 * Math.sin(t) ** 3 / 17, y - radius * (up + 2.5) / 17];
      }).flat();
    case "cross": {
      const [a, b] = [radius * 0.95, radius * dice.between(0.25, 0.36)];
      return [
        [-b, -a],
        [b, -a],
        [b, -b],
        [a, -b],
        [a, b],
        [b, b],
        [b, a],
        [-b, a],
        [-b, b],
        [
          -a,
          b,
        ],
        [-a, -b],
        [-b, -b],
      ].flatMap(([dx, dy]) => [x + dx!, y + dy!]);
    }
  }
}

function triangle({ x, y, radius }: Spot, dice: Dice): Polygon {
  const draw = dice.unit();
  if (draw < 0.45) return [x - radius, y + radius, x + radius, y + radius, x, y - radius];
  const turn = draw < 0.86 ? -Math.PI / 2 : dice.between(0, 2 * Math.PI);
  const skew = draw < 0.86 ? 0 : dice.between(-0.25, 0.25);
  return [0, 2.094 + skew, 4.189].flatMap((angle) => [
    x + radius * Math.cos(turn + angle),
    y + radius * Math.sin(turn + angle),
  ]);
}

/** Places for `count` figures that do not touch: in a grid, in a row, or anywhere. */
export function placesFor(
  count: number,
  { width, height, dice, easy }: { width: number; height: number; dice: Dice; easy: boolean },
): Spot[] {
  const style = dice.unit();
  if (easy && count <= 9) return gridPlaces(count, { width, height, dice, columns: 3, rows: 3 });
  if ((style < 0.3 && count > 1) || (count > 7 && style < 0.6)) {
    const columns = dice.integer(count > 4 ? 3 : 2, count < 10 ? 3 : 4);
    const rows = Math.max(Math.ceil(count / columns), dice.integer(2, 3));
    return gridPlaces(count, { width, height, dice, columns, rows });
  }
  if (style < 0.4 && count > 1) return rowPlaces(count, { width, height, dice });
  return freePlaces(count, { width, height, dice });
}

function gridPlaces(
  count: number,
  { width, height, dice, columns, rows }: {
    width: number;
    height: number;
    dice: Dice;
    columns: number;
    rows: number;
  },
): Spot[] {
  const [w, h] = [width / columns, height / rows];
  const cells = Array.from({ length: columns * rows }, (_, i) => i);
  const chosen = dice.chance(0.6) ? dice.sample(cells, count) : cells.slice(0, count);
  const top = Math.min(w, h) / 2 * 0.93;
  const common = dice.chance(0.5) ? dice.between(0.45, 1) * top : undefined;
  return chosen.map((cell) => {
    const radius = common ?? dice.between(0.45, 1) * top;
    const [jx, jy] = [Math.max(0, w / 2 - radius - 1), Math.max(0, h / 2 - radius - 1)];
    const jitter = common === undefined ? 1 : 0;
    return {
      x: (cell % columns + 0.5) * w + dice.between(-jx, jx) * jitter,
      y: (Math.floor(cell / columns) + 0.5) * h + dice.between(-jy, jy) * jitter,
      radius,
    };
  });
}

function rowPlaces(
  count: number,
  { width, height, dice }: { width: number; height: number; dice: Dice },
): Spot[] {
  const isRow = dice.chance(0.7);
  const [along, across] = isRow ? [width, height] : [height, width];
  const step = along / count;
  const radius = Math.min(step / 2 * 0.9, Math.min(width, height) * 0.3) * dice.between(0.5, 1);
  const offset = dice.chance(0.5) ? dice.between(radius, across - radius) : across / 2;
  return Array.from({ length: count }, (_, i) => {
    const at = (i + 0.5) * step;
    return isRow ? { x: at, y: offset, radius } : { x: offset, y: at, radius };
  });
}

function freePlaces(
  count: number,
  { width, height, dice }: { width: number; height: number; dice: Dice },
): Spot[] {
  const least = Math.min(width, height);
  const low = least * 0.05;
  const share = [0.46, 0.3, 0.25, 0.21, 0.21][count - 1] ?? 0.17;
  let high = least * share;
  const isCommon = dice.chance(0.5);
  let common = dice.between(low, high);
  for (;;) {
    const out: Spot[] = [];
    for (let tries = 0; tries < 40 * count && out.length < count; tries++) {
      const radius = isCommon ? common : dice.between(low, high);
      const x = dice.between(radius + 1, width - radius - 1);
      const y = dice.between(radius + 1, height - radius - 1);
      const isFree = out.every((other) => areApart({ x, y, radius }, other));
      if (isFree) out.push({ x, y, radius });
    }
    if (out.length === count) return out;
    high = Math.max(high * 0.9, low * 1.01);
    common = Math.max(common * 0.9, low * 0.5);
  }
}

/** Neither their circles nor their squares touch. */
function areApart(a: Spot, b: Spot): boolean {
  const [dx, dy] = [Math.abs(a.x - b.x), Math.abs(a.y - b.y)];
  const reach = a.radius + b.radius;
  return Math.max(dx, dy) > reach + 3 || Math.hypot(dx, dy) > reach * 1.42 + 3;
}

export interface FigureScene {
  readonly canvas: Canvas;
  readonly marks: Mark[];
  readonly figures: readonly Figure[];
}

/**
 * Paints shapes in named colours at the places `choose` gives (default: anywhere, apart). All
 * figures of one colour have one shade now and then.
 */
export function drawFigures(
  wanted: readonly { readonly shape: ShapeName; readonly colour: ColourName }[],
  { dice, settings, choose, easy = false, size }: {
    dice: Dice;
    settings: MakerSettings;
    choose?: (width: number, height: number) => readonly Spot[];
    easy?: boolean;
    size?: [number, number];
  },
): FigureScene {
  const [width, height] = size ?? pictureSize(dice, settings);
  const spots = choose?.(width, height) ??
    placesFor(wanted.length, { width, height, dice, easy });
  const pale = wanted.some(({ colour }) => ["yellow", "pink", "gray"].includes(colour));
  const canvas = new Canvas(width, height, pale ? WHITE : lightBackground(dice));
  const figures = wanted.map((figure, i): Figure => ({ ...figure, ...spots[i]! }));
  const isOutlined = !easy && !choose && dice.chance(0.12);
  const shades = new Map<ColourName, Rgb>();
  const isOneShade = dice.chance(0.6);
  for (const figure of figures) {
    const shade = (isOneShade ? shades.get(figure.colour) : undefined) ??
      shadeOf(figure.colour, dice);
    shades.set(figure.colour, shade);
    paintFigure(canvas, figure, { dice, shade, isOutlined });
  }
  spoil(canvas, dice, settings.spoiling);
  return { canvas, marks: marksOf(figures, 0), figures };
}

function paintFigure(
  canvas: Canvas,
  figure: Figure,
  { dice, shade, isOutlined }: { dice: Dice; shade: Rgb; isOutlined: boolean },
): void {
  if (isOutlined) {
    const line = Math.max(2, figure.radius * dice.between(0.12, 0.28));
    // The line's outer edge stays where a filled figure would end.
    const inner = { ...figure, radius: figure.radius - line / 2 };
    canvas.fill(closedLine(outlineOf(figure.shape, inner, dice), line), shade);
    return;
  }
  const outline = outlineOf(figure.shape, figure, dice);
  canvas.fill([outline], shade);
  if (figure.colour !== "black" && dice.chance(0.08)) {
    canvas.fill(closedLine(outline, Math.max(1, figure.radius * 0.06)), BLACK);
  }
}

function closedLine(outline: Polygon, width: number): Polygon[] {
  return linePolygons([...outline, ...outline.slice(0, 4)], width);
}

/** The figures as marks of a picture. */
export function marksOf(figures: readonly Figure[], picture: number): Mark[] {
  return figures.map(({ shape, colour, x, y, radius }, i) => ({
    kind: "figure",
    picture,
    box: { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius },
    label: shape,
    order: i + 1,
    colour,
  }));
}
