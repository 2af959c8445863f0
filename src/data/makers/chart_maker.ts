/** Questions and captions about charts and tables that are drawn from their specification. */
import { assert } from "@/assert.ts";
import type { Dice } from "../dice.ts";
import { Canvas } from "../drawing/canvas.ts";
import { BLACK, type Rgb, WHITE } from "../drawing/colour.ts";
import { spoil } from "../drawing/spoiling.ts";
import { subtractionSteps } from "./arithmetic_maker.ts";
import { phrase } from "./asking.ts";
import { drawChart, drawText, rankOf, textMarks } from "./chart_drawing.ts";
import { chartKinds, type ChartSpec, drawChartSpec } from "./chart_spec.ts";
import { pickFace } from "./lettering_scene.ts";
import { type ChartQuestionKind, chartQuestions, wordings } from "./phrases_table.ts";
import type { Drawn } from "./reading_maker.ts";
import type { AnswerKind, MakerSettings, Rank, Turn } from "./sample.ts";

const CHART_LETTERS = "ABCDEFghijklmnop0123456789";

interface Asked {
  readonly kind: ChartQuestionKind;
  readonly x?: string;
  readonly y?: string;
  readonly answer: string;
  readonly answerKind: AnswerKind;
  readonly thought?: string;
}

/** All questions that this chart answers for sure. */
export function questionsOf(spec: ChartSpec, dice: Dice): Asked[] {
  const { kind, values, categories, title } = spec;
  const asked: Asked[] = [{ kind: "kind", answer: kind, answerKind: "word" }];
  if (title !== undefined) asked.push({ kind: "title", answer: title, answerKind: "word" });
  if (kind === "scatter") {
    const answer = String(spec.points.length);
    return [...asked, { kind: "points", answer, answerKind: "number" }];
  }
  if (kind === "box") {
    const i = dice.integer(0, spec.boxes.length - 1);
    const answer = String(spec.boxes[i]!.median);
    return [...asked, { kind: "median", x: categories[i]!, answer, answerKind: "number" }];
  }
  if (kind === "heatmap") {
    const row = dice.integer(0, spec.cells.length - 1);
    const column = dice.integer(0, categories.length - 1);
    const x = `${categories[column]} in row ${spec.rowNames[row]}`;
    const answer = String(spec.cells[row]![column]);
    return [...asked, { kind: "value", x, answer, answerKind: "number" }];
  }
  const number = (kind: ChartQuestionKind, answer: number): Asked => ({
    kind,
    answer: String(answer),
    answerKind: "number",
  });
  const [i, j] = dice.sample(categories.map((_, at) => at), 2) as [number, number];
  const [larger, smaller] = values[i]! >= values[j]! ? [i, j] : [j, i];
  const pair = { x: categories[larger]!, y: categories[smaller]! };
  asked.push(
    valueQuestion(spec, i),
    valueQuestion(spec, j),
    { kind: "highest", answer: extreme(spec, Math.max), answerKind: "word" },
    { kind: "lowest", answer: extreme(spec, Math.min), answerKind: "word" },
    { ...number("difference", values[larger]! - values[smaller]!), ...pair },
    number("categories", categories.length),
    {
      kind: "compare",
      x: categories[i]!,
      y: categories[j]!,
      answer: values[i]! > values[j]! ? "yes" : "no",
      answerKind: "yes_no",
    },
  );
  if (values.length <= 3) asked.push(number("total", values.reduce((a, b) => a + b, 0)));
  const trend = trendOf(values);
  if ((kind === "line" || kind === "area") && trend) {
    asked.push({ kind: "trend", answer: trend, answerKind: "word" });
  }
  return asked;
}

function valueQuestion({ categories, values }: ChartSpec, i: number): Asked {
  return { kind: "value", x: categories[i]!, answer: String(values[i]), answerKind: "number" };
}

function extreme({ values, categories }: ChartSpec, best: (...of: number[]) => number): string {
  return categories[values.indexOf(best(...values))]!;
}

/** Up or down, if all steps agree. */
function trendOf(values: readonly number[]): "up" | "down" | undefined {
  const steps = values.slice(1).map((value, i) => value - values[i]!);
  if (steps.every((step) => step > 0)) return "up";
  return steps.every((step) => step < 0) ? "down" : undefined;
}

/** The chart in words, from its specification. */
export function captionOf(spec: ChartSpec): string {
  const { kind, title, categories, values } = spec;
  const article = /^[aeiou]/.test(kind) ? "an" : "a";
  const about = title === undefined ? "" : ` titled ${title}`;
  const start = `${article} ${kind} chart${about}`;
  if (kind === "scatter") return `${start} with ${spec.points.length} points`;
  const parts = categories.map((name, i) => {
    if (kind === "box") return `${name} median ${spec.boxes[i]!.median}`;
    if (kind === "heatmap") return `${name} ${spec.cells.map((row) => row[i]).join(" ")}`;
    return `${name} ${values[i]}`;
  });
  return `${start}: ${parts.join(", ")}`;
}

function chartSample(
  task: string,
  { spec, asked, dice, settings }: {
    spec: ChartSpec;
    asked: readonly [Asked, ...Asked[]];
    dice: Dice;
    settings: MakerSettings;
  },
): Drawn {
  const side = settings.side;
  const [width, height] = dice.chance(settings.otherSizes)
    ? [Math.round(side * dice.between(0.9, 1.6)), Math.round(side * dice.between(0.9, 1.3))]
    : [side, side];
  const face = pickFace(dice, settings, CHART_LETTERS);
  const { canvas, marks } = drawChart(spec, { width, height, face, dice });
  spoil(canvas, dice, settings.spoiling);
  const turns = asked.map((one) => turnOf(one, { dice, settings }));
  return {
    task,
    pictures: [canvas],
    isClip: false,
    turns,
    marks,
    truth: {
      answerKind: asked[0].answerKind,
      facts: { spec, question: asked[0].kind, caption: captionOf(spec), face: face.name },
    },
  };
}

function turnOf(
  { kind, x, y, answer, answerKind, thought }: Asked,
  { dice, settings }: { dice: Dice; settings: MakerSettings },
): Turn {
  const question = phrase(wordings(chartQuestions[kind]), {
    dice,
    wording: settings.wording,
    holes: {
      ...(x !== undefined && { x }),
      ...(y !== undefined && { y }),
      numeric: answerKind === "number",
    },
  });
  return { question, ...(thought !== undefined && { thought }), answer };
}

/** Any of the eight kinds, any question it answers. */
export function makeChart(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawChartSpec(dice.pick(chartKinds), dice);
  const asked = dice.pick(questionsOf(spec, dice));
  return chartSample("chart", { spec, asked: [asked], dice, settings });
}

/** Half of them bars, else any of the eight kinds. */
function drawMostlyBars(dice: Dice): ChartSpec {
  return drawChartSpec(dice.chance(0.5) ? "bar" : dice.pick(chartKinds), dice);
}

/** The whole chart in words: one answer names every category and every value. */
export function makeChartCaption(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawMostlyBars(dice);
  const asked: Asked = { kind: "caption", answer: captionOf(spec), answerKind: "text" };
  return chartSample("chart_caption", { spec, asked: [asked], dice, settings });
}

/** Several questions about one chart, one after the other: a picture is seen once for all. */
export function makeChartDialogue(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawMostlyBars(dice);
  const [first, ...others] = dice.shuffled(questionsOf(spec, dice));
  assert(first, "every chart answers a question");
  const asked = [first, ...others.slice(0, dice.integer(2, 4))] as const;
  return chartSample("chart_dialogue", { spec, asked, dice, settings });
}

/**
 * A bar chart whose values can be read off exactly: values, extremes, differences. Its thought reads
 * bars from the left (or the top), then names the bar in question or calculates.
 */
export function makeBarReading(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawBarSpec(dice, settings);
  return chartSample("bar_reading", { spec, asked: [drawBarQuestion(spec, dice)], dice, settings });
}

function drawBarQuestion(spec: ChartSpec, dice: Dice): Asked {
  const kinds: ChartQuestionKind[] = ["value", "value", "highest", "lowest", "difference"];
  const kind = dice.pick(kinds);
  const asked = questionsOf(spec, dice).filter((question) => question.kind === kind);
  assert(asked.length > 0, "a bar chart answers this kind of question");
  const picked = dice.pick(asked);
  return { ...picked, thought: barThought(spec, picked) };
}

/**
 * The same of bars that the question lists, without a picture: to find what was asked for among what
 * was read, at a fraction of the cost.
 */
export function makeTextBars(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawBarSpec(dice, settings);
  const asked = drawBarQuestion(spec, dice);
  const turn = turnOf(asked, { dice, settings });
  const { answerKind, kind } = asked;
  return {
    task: "text_bars",
    pictures: [],
    isClip: false,
    turns: [{ ...turn, question: `${barsOf(spec)} ${turn.question}` }],
    marks: [],
    truth: { answerKind, facts: { spec, question: kind } },
  };
}

/** Every bar's value and all that follows from them, asked in any order: one picture teaches it all. */
export function makeBarDialogue(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawBarSpec(dice, settings);
  const values = spec.categories.map((_, i) => valueQuestion(spec, i));
  const follows = ["highest", "lowest", "difference"];
  const others = questionsOf(spec, dice).filter(({ kind }) => follows.includes(kind));
  const [first, ...rest] = dice.shuffled([...values, ...others]);
  assert(first, "a chart has bars");
  return chartSample("bar_dialogue", { spec, asked: [first, ...rest], dice, settings });
}

/** At the start of a curriculum two bars with their values printed. */
function drawBarSpec(dice: Dice, settings: MakerSettings): ChartSpec {
  const drawn = drawChartSpec("bar", dice);
  const isShort = settings.lengthMax < 5;
  const count = isShort ? 2 : drawn.categories.length;
  return {
    ...drawn,
    categories: drawn.categories.slice(0, count),
    values: drawn.values.slice(0, count),
    printed: drawn.printed || isShort,
  };
}

/**
 * What is asked for and all bars, then the one bar, or the two and the calculation. A small decoder
 * rarely looks back to a question behind a list; to the start of its own thought it does. For an
 * extreme the list ends at it: to find it in a finished list is harder.
 */
function barThought(spec: ChartSpec, { kind, x, y, answer }: Asked): string {
  if (kind === "value") return `${x}? ${barsOf(spec)} ${barOf(spec, x!)}.`;
  if (kind !== "difference") return `${kind}? ${barsOf(spec, answer)} ${answer}.`;
  const [larger, smaller] = [valueOf(spec, x!), valueOf(spec, y!)];
  const pair = `${barOf(spec, x!)}, ${barOf(spec, y!)}. ${larger}-${smaller}.`;
  const steps = subtractionSteps(larger, smaller).join(", ");
  return `${x}-${y}? ${barsOf(spec)} ${pair} ${steps}.`;
}

const valueOf = ({ categories, values }: ChartSpec, name: string): number =>
  values[categories.indexOf(name)]!;

const barOf = (spec: ChartSpec, name: string): string => `${name} ${valueOf(spec, name)}`;

/** Marks stand before the value, where a bar is looked at to read it: there they are learnt soonest. */
const rankMarks: Record<Rank, string> = { lowest: "<", between: "", highest: ">" };

/** All bars in their order, or those up to a name, with marks on the highest value and the lowest. */
function barsOf({ categories, values }: ChartSpec, last = categories.at(-1)!): string {
  const read = categories.slice(0, categories.indexOf(last) + 1).map((name, i) => {
    const value = values[i]!;
    return `${name} ${rankMarks[rankOf(value, values)]}${value}`;
  });
  return `${read.join(", ")}.`;
}

const columnTitles = ["size", "cost", "age", "score", "count"];

/** A small table of names and numbers; the question asks for one cell. */
export function makeTable(dice: Dice, settings: MakerSettings): Drawn {
  const spec = drawChartSpec("bar", dice);
  const columns = dice.sample(columnTitles, dice.integer(1, 2));
  const rows = spec.categories.map((name) => [
    name,
    ...columns.map(() => String(dice.integer(0, 99))),
  ]);
  const face = pickFace(dice, settings, CHART_LETTERS);
  const canvas = drawTable([["name", ...columns], ...rows], { side: settings.side, face, dice });
  spoil(canvas, dice, settings.spoiling);
  const row = dice.integer(0, rows.length - 1);
  const column = dice.integer(0, columns.length - 1);
  const x = columns.length === 1 ? rows[row]![0]! : `${columns[column]} of ${rows[row]![0]}`;
  const templates = wordings(chartQuestions.value).filter((text) => !text.includes("have"));
  const holes = { x, numeric: true };
  const question = phrase(templates, { dice, wording: settings.wording, holes });
  const answer = rows[row]![column + 1]!;
  return {
    task: "table",
    pictures: [canvas],
    isClip: false,
    turns: [{ question, answer }],
    marks: textMarks(canvas, 0),
    truth: { answerKind: "number", facts: { header: columns, rows, face: face.name } },
  };
}

function drawTable(
  cells: readonly (readonly string[])[],
  { side, face, dice }: { side: number; face: Parameters<typeof drawText>[2]["face"]; dice: Dice },
): Canvas {
  const canvas = new Canvas(side, side, WHITE);
  const margin = side * dice.between(0.03, 0.08);
  const rowHeight = (side - 2 * margin) / Math.max(cells.length, 4);
  const columnWidth = (side - 2 * margin) / cells[0]!.length;
  const size = Math.min(rowHeight * 0.5, columnWidth * 0.26);
  const head: Rgb = dice.pick<Rgb>([[225, 232, 245], [235, 235, 235], [250, 240, 215], WHITE]);
  const right = margin + columnWidth * cells[0]!.length;
  canvas.fillBox({ left: margin, top: margin, right, bottom: margin + rowHeight }, head);
  for (const [r, row] of cells.entries()) {
    for (const [c, text] of row.entries()) {
      const [x, y] = [margin + (c + 0.5) * columnWidth, margin + (r + 0.5) * rowHeight];
      drawText(canvas, text, { x, y, face, size });
    }
  }
  const line = dice.between(0.8, 1.6);
  const bottom = margin + rowHeight * cells.length;
  for (let r = 0; r <= cells.length; r++) {
    const y = margin + r * rowHeight;
    canvas.line([margin, y, right, y], BLACK, line);
  }
  if (dice.chance(0.7)) {
    for (let c = 0; c <= cells[0]!.length; c++) {
      const x = margin + c * columnWidth;
      canvas.line([x, margin, x, bottom], BLACK, line);
    }
  }
  return canvas;
}
