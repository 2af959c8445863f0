/** What a chart shows, as plain data: the "code" that `chart_drawing.ts` renders. */
import type { Dice } from "../dice.ts";
import { type ColourName, colourNames } from "../drawing/colour.ts";

export const chartKinds = [
  "bar",
  "line",
  "pie",
  "scatter",
  "area",
  "histogram",
  "heatmap",
  "box",
] as const;

export type ChartKind = (typeof chartKinds)[number];

/** Five numbers of a box plot: whiskers, quartiles, median. */
export interface BoxNumbers {
  readonly low: number;
  readonly firstQuartile: number;
  readonly median: number;
  readonly thirdQuartile: number;
  readonly high: number;
}

export interface ChartSpec {
  readonly kind: ChartKind;
  readonly title: string | undefined;
  /** Names along the axis, of the slices, of the columns. */
  readonly categories: readonly string[];
  /** One value per category (per bin, per slice). Empty for scatter, heatmap and box. */
  readonly values: readonly number[];
  /** Upper end of the value axis, and the step of its ticks. */
  readonly axisMax: number;
  readonly tickStep: number;
  readonly colours: readonly ColourName[];
  /** Values printed beside bars, slices or cells. */
  readonly printed: boolean;
  readonly grid: boolean;
  readonly horizontal: boolean;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Heatmap cells, `[row][column]`, and the rows' names. */
  readonly cells: readonly (readonly number[])[];
  readonly rowNames: readonly string[];
  readonly boxes: readonly BoxNumbers[];
}

const names = [
  ["A", "B", "C", "D", "E"],
  ["red", "green", "blue", "gray", "pink"],
  ["cat", "dog", "fish", "bird", "cow"],
  ["Mon", "Tue", "Wed", "Thu", "Fri"],
  ["Jan", "Feb", "Mar", "Apr", "May"],
  ["tea", "milk", "rice", "egg", "cake"],
  ["Ann", "Ben", "Eva", "Tom", "Zoe"],
  ["1", "2", "3", "4", "5"],
];

const titles = ["Sales", "Rain", "Books", "Pets", "Goals", "Visits", "Cost", "Score", "Fruit"];

const shortRows = ["x", "y", "z"];

/** A random chart of a kind, with 2–5 categories and whole values. */
export function drawChartSpec(kind: ChartKind, dice: Dice): ChartSpec {
  const count = dice.integer(kind === "line" || kind === "area" ? 3 : 2, 5);
  const top = dice.pick([5, 10, 10, 10, 20, 50, 100]);
  const step = top <= 10 ? 1 : top / 10;
  const low = kind === "line" || kind === "area" ? 0 : 1;
  const values = distinctValues(count, { dice, low, top, step });
  const palette = dice.shuffled(colourNames.slice(0, 7));
  const isManyColoured = kind === "pie" || dice.chance(0.4);
  return {
    kind,
    title: dice.chance(0.5) ? dice.pick(titles) : undefined,
    categories: dice.pick(kind === "histogram" ? names.slice(-1) : names.slice(0, -1))
      .slice(0, count),
    values: ["scatter", "heatmap", "box"].includes(kind) ? [] : values,
    axisMax: top,
    tickStep: top <= 5 ? 1 : top / 5,
    colours: isManyColoured ? palette : [palette[0]!],
    printed: kind === "pie" || kind === "heatmap" || dice.chance(0.3),
    grid: dice.chance(0.5),
    horizontal: kind === "bar" && dice.chance(0.25),
    points: kind === "scatter" ? scatterPoints(dice, top) : [],
    cells: kind === "heatmap"
      ? shortRows.slice(0, dice.integer(2, 3)).map(() =>
        distinctValues(count, { dice, low: 0, top: 9, step: 1 })
      )
      : [],
    rowNames: shortRows,
    boxes: kind === "box" ? values.map(() => boxNumbers(dice, top)) : [],
  };
}

/** Whole values of which the largest and the smallest stand out. */
function distinctValues(
  count: number,
  { dice, low, top, step }: { dice: Dice; low: number; top: number; step: number },
): number[] {
  const steps = Math.round(top / step);
  const choices = Array.from({ length: steps - low + 1 }, (_, i) => (i + low) * step);
  if (choices.length >= count) return dice.sample(choices, count);
  return Array.from({ length: count }, () => dice.pick(choices));
}

function scatterPoints(dice: Dice, top: number): [number, number][] {
  const points: [number, number][] = [];
  const count = dice.integer(2, 9);
  while (points.length < count) {
    const point: [number, number] = [dice.between(0.05, 0.95), dice.between(0.05, 0.95)];
    const isFree = points.every(([x, y]) => Math.hypot(x - point[0], y / top - point[1]) > 0.13);
    if (isFree) points.push([point[0], point[1] * top]);
  }
  return points;
}

function boxNumbers(dice: Dice, top: number): BoxNumbers {
  const [low, firstQuartile, median, thirdQuartile, high] = [0, 1, 2, 3, 4].map((i) =>
    Math.round(top * (0.04 + 0.19 * i + dice.between(0, 0.13)))
  ) as [number, number, number, number, number];
  return { low, firstQuartile, median, thirdQuartile, high };
}
