/**
 * Handwritten digits: strokes as people write them, bent, leaned and trembled at random, inked with
 * a round pen, and often kept at a few pixels only, as scanners of forms do.
 */
import type { Dice } from "../dice.ts";
import { Canvas, ellipsePolygon, linePolygons } from "../drawing/canvas.ts";
import type { Rgb } from "../drawing/colour.ts";
import { spoil } from "../drawing/spoiling.ts";
import type { MakerSettings, Mark } from "./sample.ts";

type Point = readonly [x: number, y: number];

/** One way to write a digit: strokes in the unit square, y down, as few points of a smooth curve. */
type Ways = readonly (readonly (readonly Point[])[])[];

const oval: Point[] = [
  [0.55, 0.02],
  [0.2, 0.15],
  [0.08, 0.5],
  [0.22, 0.88],
  [0.52, 0.98],
  [0.82, 0.82],
  [0.92, 0.48],
  [0.78, 0.12],
  [0.5, 0.03],
];

const ways: readonly Ways[] = [
  [[oval], [[...oval, [0.3, 0.2]]]],
  [
    [[[0.5, 0], [0.5, 1]]],
    [[[0.25, 0.25], [0.55, 0], [0.52, 1]]],
    [[[0.28, 0.22], [0.55, 0.02], [0.52, 0.98]], [[0.25, 0.98], [0.8, 0.98]]],
    [[[0.62, 0], [0.4, 1]]],
  ],
  [
    [[
      [0.12, 0.22],
      [0.35, 0.02],
      [0.75, 0.08],
      [0.8, 0.35],
      [0.5, 0.65],
      [0.1, 0.97],
      [0.1, 0.98],
      [0.9, 0.96],
    ]],
    [[
      [0.15, 0.25],
      [0.4, 0.02],
      [0.8, 0.18],
      [0.65, 0.55],
      [0.25, 0.92],
      [0.12, 0.82],
      [0.3, 0.76],
      [0.6, 0.95],
      [0.92, 0.88],
    ]],
  ],
  [
    [[
      [0.15, 0.1],
      [0.5, 0.01],
      [0.82, 0.18],
      [0.7, 0.4],
      [0.4, 0.48],
      [0.75, 0.55],
      [0.88, 0.76],
      [0.6, 0.97],
      [0.12, 0.9],
    ]],
    [[[0.12, 0.04], [0.82, 0.04], [0.45, 0.42], [0.8, 0.55], [0.84, 0.82], [0.5, 0.99], [
      0.12,
      0.9,
    ]]],
  ],
  [
    [[[0.3, 0], [0.12, 0.55], [0.88, 0.55]], [[0.7, 0.1], [0.66, 1]]],
    [[[0.72, 1], [0.72, 0], [0.08, 0.65], [0.92, 0.65]]],
    [[[0.22, 0.02], [0.18, 0.45], [0.78, 0.45]], [[0.8, 0], [0.76, 1]]],
  ],
  [
    [[
      [0.25, 0.04],
      [0.2, 0.42],
      [0.55, 0.38],
      [0.86, 0.6],
      [0.75, 0.9],
      [0.4, 0.99],
      [0.1, 0.88],
    ], [[0.25, 0.04], [0.85, 0.03]]],
    [[
      [0.85, 0.03],
      [0.25, 0.05],
      [0.22, 0.06],
      [0.2, 0.45],
      [0.6, 0.4],
      [0.88, 0.68],
      [0.6, 0.97],
      [0.1, 0.92],
    ]],
  ],
  [
    [[
      [0.7, 0.02],
      [0.35, 0.2],
      [0.14, 0.6],
      [0.25, 0.92],
      [0.6, 0.98],
      [0.84, 0.75],
      [0.65, 0.52],
      [0.3, 0.58],
      [0.17, 0.72],
    ]],
    [[
      [0.5, 0.0],
      [0.22, 0.4],
      [0.16, 0.78],
      [0.45, 0.99],
      [0.8, 0.84],
      [0.7, 0.6],
      [0.4, 0.58],
      [0.18, 0.78],
    ]],
  ],
  [
    [[[0.1, 0.05], [0.9, 0.04], [0.9, 0.05], [0.55, 0.5], [0.38, 1]]],
    [[[0.1, 0.08], [0.88, 0.03], [0.88, 0.04], [0.4, 1]], [[0.32, 0.5], [0.82, 0.48]]],
    [[[0.08, 0.22], [0.12, 0.06], [0.88, 0.04], [0.88, 0.05], [0.42, 0.98]]],
  ],
  [
    [[
      [0.75, 0.15],
      [0.5, 0.01],
      [0.22, 0.18],
      [0.4, 0.42],
      [0.72, 0.6],
      [0.8, 0.85],
      [0.5, 0.99],
      [0.2, 0.85],
      [0.32, 0.6],
      [0.68, 0.38],
      [0.76, 0.16],
    ]],
    [
      [[0.5, 0.01], [0.22, 0.22], [0.5, 0.47], [0.78, 0.22], [0.5, 0.01]],
      [[0.5, 0.47], [0.15, 0.74], [0.5, 0.99], [0.85, 0.74], [0.5, 0.47]],
    ],
  ],
  [
    [[
      [0.8, 0.25],
      [0.55, 0.03],
      [0.2, 0.2],
      [0.3, 0.48],
      [0.65, 0.45],
      [0.82, 0.2],
      [0.78, 0.6],
      [0.7, 1],
    ]],
    [[
      [0.8, 0.2],
      [0.5, 0.02],
      [0.18, 0.25],
      [0.42, 0.5],
      [0.8, 0.25],
      [0.82, 0.65],
      [0.6, 0.96],
      [0.2, 0.92],
    ]],
  ],
];

/** Points along a smooth curve through the given ones (Catmull-Rom). */
function smoothCurve(points: readonly Point[]): Point[] {
  const at = (i: number) => points[Math.min(points.length - 1, Math.max(0, i))]!;
  const out: Point[] = [points[0]!];
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b, c, d] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    for (let step = 1; step <= 5; step++) {
      const t = step / 5;
      const blend = (k: 0 | 1) =>
        0.5 * (2 * b[k] + (c[k] - a[k]) * t + (2 * a[k] - 5 * b[k] + 4 * c[k] - d[k]) * t * t +
          (3 * b[k] - a[k] - 3 * c[k] + d[k]) * t * t * t);
      out.push([blend(0), blend(1)]);
    }
  }
  return out;
}

/** Maps the unit square as one writer's hand does. */
function handOf(dice: Dice): (point: Point) => Point {
  const lean = dice.between(-0.25, 0.35);
  const turn = dice.between(-0.18, 0.18);
  const aspect = dice.between(0.55, 1.05);
  const [ax, ay] = [dice.between(0.01, 0.06), dice.between(0.01, 0.06)];
  const [px, py] = [dice.between(0, 6.28), dice.between(0, 6.28)];
  const [fx, fy] = [dice.between(2, 6), dice.between(2, 6)];
  return ([x, y]) => {
    const u = (x - 0.5) * aspect - (y - 0.5) * lean * 0.6 + ax * Math.sin(fx * y + px);
    const v = y - 0.5 + ay * Math.sin(fy * x + py);
    return [u * Math.cos(turn) - v * Math.sin(turn), u * Math.sin(turn) + v * Math.cos(turn)];
  };
}

/** One digit, large in its picture, dark on light or light on dark. */
export function drawHandwrittenDigit(
  digit: number,
  { dice, settings }: { dice: Dice; settings: MakerSettings },
): { canvas: Canvas; marks: Mark[] } {
  const side = settings.side;
  const isDark = dice.chance(0.5);
  const paper: Rgb = isDark ? [0, 0, 0] : [255, 255, 255];
  const ink: Rgb = isDark ? [255, 255, 255] : [0, 0, 0];
  const hand = handOf(dice);
  const strokes = dice.pick(ways[digit]!).map((points) =>
    smoothCurve(points.map(([x, y]): Point => [
      x + dice.between(-0.035, 0.035),
      y + dice.between(-0.035, 0.035),
    ])).map(hand)
  );
  const all = strokes.flat();
  const [left, right] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
  const [top, bottom] = [Math.min(...all.map(([, y]) => y)), Math.max(...all.map(([, y]) => y))];
  // Forms are cut out close around the digit.
  const fill = dice.between(settings.spread > 0.5 ? 0.55 : 0.7, 0.9);
  const scale = side * fill / Math.max(bottom - top, right - left);
  const pen = side * dice.between(0.05, 0.15);
  const middle: Point = [
    side / 2 + dice.between(-0.5, 0.5) * side * (1 - fill),
    side / 2 + dice.between(-0.5, 0.5) * side * (1 - fill),
  ];
  const canvas = new Canvas(side, side, paper);
  for (const stroke of strokes) {
    const points = stroke.flatMap(([x, y]) => [
      middle[0] + (x - (left + right) / 2) * scale,
      middle[1] + (y - (top + bottom) / 2) * scale,
    ]);
    const ends = [points.slice(0, 2), points.slice(-2)].map(([x, y]) =>
      ellipsePolygon({ x: x!, y: y!, rx: pen / 2, ry: pen / 2 })
    );
    canvas.fill([...linePolygons(points, pen), ...ends], ink);
  }
  if (dice.chance(0.6)) coarsen(canvas, dice);
  spoil(canvas, dice, settings.spoiling * 0.6);
  const half = [(right - left) * scale / 2, (bottom - top) * scale / 2] as const;
  const box = {
    left: middle[0] - half[0],
    top: middle[1] - half[1],
    right: middle[0] + half[0],
    bottom: middle[1] + half[1],
  };
  return {
    canvas,
    marks: [{ kind: "letter", picture: 0, box, label: String(digit), order: 1 }],
  };
}

/** Keeps only a grid of 8x8 to 16x16 grey cells, shown as squares or blended. */
function coarsen(canvas: Canvas, dice: Dice): void {
  const { width, height, data } = canvas;
  const cells = dice.weighted([[8, 6], [10, 1], [12, 1], [16, 2]]);
  const levels = 16;
  const sums = new Float64Array(cells * cells);
  const counts = new Float64Array(cells * cells);
  const cellOf = (x: number, y: number) =>
    Math.floor(y * cells / height) * cells + Math.floor(x * cells / width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sums[cellOf(x, y)]! += data[(y * width + x) * 3]!;
      counts[cellOf(x, y)]!++;
    }
  }
  const grey = sums.map((sum, i) => Math.round(sum / counts[i]! / 255 * levels) * 255 / levels);
  const isBlended = dice.chance(0.6);
  const sample = (x: number, y: number) =>
    grey[Math.min(cells - 1, Math.max(0, y)) * cells + Math.min(cells - 1, Math.max(0, x))]!;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let value = grey[cellOf(x, y)]!;
      if (isBlended) {
        const [u, v] = [(x + 0.5) * cells / width - 0.5, (y + 0.5) * cells / height - 0.5];
        const [i, j] = [Math.floor(u), Math.floor(v)];
        const [s, t] = [u - i, v - j];
        value = (sample(i, j) * (1 - s) + sample(i + 1, j) * s) * (1 - t) +
          (sample(i, j + 1) * (1 - s) + sample(i + 1, j + 1) * s) * t;
      }
      data.fill(Math.round(value), (y * width + x) * 3, (y * width + x) * 3 + 3);
    }
  }
}
