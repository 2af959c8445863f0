/** Short frame sequences, as clips: something moves, changes colour, multiplies, or counts. */
import { Dice } from "../dice.ts";

import { Canvas } from "../drawing/canvas.ts";
import { BLACK, shadeOf, WHITE } from "../drawing/colour.ts";
import { ask } from "./asking.ts";
import { drawText, textMarks } from "./chart_drawing.ts";
import { type Figure, marksOf, outlineOf, placesFor } from "./figures.ts";
import { pickFace } from "./lettering_scene.ts";
import type { Drawn } from "./reading_maker.ts";
import type { AnswerKind, MakerSettings, Mark } from "./sample.ts";
import { drawColour, drawShape, pluralOf } from "./scene_maker.ts";

function clip(
  task: string,
  { frames, marks = [], question, answer, answerKind, facts }: {
    frames: readonly Canvas[];
    marks?: readonly Mark[];
    question: string;
    answer: string;
    answerKind: AnswerKind;
    facts: Record<string, unknown>;
  },
): Drawn {
  return {
    task,
    pictures: frames,
    isClip: true,
    turns: [{ question, answer }],
    marks,
    truth: { answerKind, facts },
  };
}

/** One figure, the same dice for its outline in every frame, so that it does not flicker. */
function paintFrame(figure: Figure, { side, seed }: { side: number; seed: () => Dice }): Canvas {
  const canvas = new Canvas(side, side, WHITE);
  const dice = seed();
  canvas.fill([outlineOf(figure.shape, figure, dice)], shadeOf(figure.colour, dice));
  return canvas;
}

const moves = {
  right: [1, 0],
  left: [-1, 0],
  down: [0, 1],
  up: [0, -1],
} as const;

export function makeDirection(dice: Dice, settings: MakerSettings): Drawn {
  const direction = dice.pick(Object.keys(moves) as (keyof typeof moves)[]);
  const [dx, dy] = moves[direction];
  const { side } = settings;
  const count = dice.integer(3, 4);
  const radius = side * dice.between(0.07, 0.14);
  const span = side * dice.between(0.25, 0.36);
  const across = dice.between(0.25, 0.75) * side;
  const [shape, colour] = [drawShape(dice), drawColour(dice)];
  const seed = again(dice);
  const figures = Array.from({ length: count }, (_, i): Figure => {
    const along = side / 2 + (i / (count - 1) * 2 - 1) * span * (dx + dy);
    const [x, y] = dx !== 0 ? [along, across] : [across, along];
    return { shape, colour, x, y, radius };
  });
  const frames = figures.map((figure) => paintFrame(figure, { side, seed }));
  const marks = figures.flatMap((figure, i) => marksOf([figure], i));
  const one = dice.chance(0.6) ? shape : "shape";
  const question = ask("direction", { dice, wording: settings.wording, holes: { one } });
  const facts = { direction, shape, colour, frames: count };
  return clip("direction", {
    frames,
    marks,
    question,
    answer: direction,
    answerKind: "word",
    facts,
  });
}

/** Dice that start again from one point whenever asked. */
function again(dice: Dice): () => Dice {
  const start = dice.integer(0, 2 ** 31);
  return () => new Dice(start);
}

export function makeRecolouring(dice: Dice, settings: MakerSettings): Drawn {
  const { side } = settings;
  const count = dice.integer(2, 4);
  const shape = drawShape(dice);
  const colours = [drawColour(dice)];
  while (colours.length < count) {
    const next = drawColour(dice);
    if (next !== colours.at(-1)) colours.push(next);
  }
  const radius = side * dice.between(0.15, 0.3);
  const seed = again(dice);
  const figures = colours.map((colour): Figure => ({
    shape,
    colour,
    x: side / 2,
    y: side / 2,
    radius,
  }));
  const frames = figures.map((figure) => paintFrame(figure, { side, seed }));
  const one = dice.chance(0.5) ? shape : "shape";
  const question = ask("change", { dice, wording: settings.wording, holes: { one } });
  return clip("recolouring", {
    frames,
    marks: figures.flatMap((figure, i) => marksOf([figure], i)),
    question,
    answer: colours.at(-1)!,
    answerKind: "word",
    facts: { shape, colours },
  });
}

export function makeNumberFrames(dice: Dice, settings: MakerSettings): Drawn {
  const { side } = settings;
  const count = dice.integer(2, 4);
  const face = pickFace(dice, settings, "0123456789");
  const numbers = Array.from({ length: count }, () => dice.integer(0, 99));
  const size = side * dice.between(0.25, 0.5);
  const frames = numbers.map((number) => {
    const canvas = new Canvas(side, side, WHITE);
    drawText(canvas, String(number), { x: side / 2, y: side / 2, face, size, ink: BLACK });
    return canvas;
  });
  const isLast = dice.chance(0.6);
  const question = ask(isLast ? "lastNumber" : "sequence", { dice, wording: settings.wording });
  return clip("number_frames", {
    frames,
    marks: frames.flatMap((canvas, i) => textMarks(canvas, i)),
    question,
    answer: isLast ? String(numbers.at(-1)) : numbers.join(", "),
    answerKind: isLast ? "number" : "text",
    facts: { numbers, face: face.name },
  });
}

export function makeGrowth(dice: Dice, settings: MakerSettings): Drawn {
  const { side } = settings;
  const count = dice.integer(2, 4);
  const shape = drawShape(dice);
  const amounts = Array.from({ length: count }, () => dice.integer(1, 6));
  const spots = placesFor(6, { width: side, height: side, dice, easy: true });
  const colour = drawColour(dice);
  const seed = again(dice);
  const frames: Canvas[] = [];
  const marks: Mark[] = [];
  for (const [i, amount] of amounts.entries()) {
    const canvas = new Canvas(side, side, WHITE);
    const figures = spots.slice(0, amount).map((spot): Figure => ({ ...spot, shape, colour }));
    for (const figure of figures) {
      const still = seed();
      canvas.fill([outlineOf(shape, figure, still)], shadeOf(colour, still));
    }
    frames.push(canvas);
    marks.push(...marksOf(figures, i));
  }
  const things = dice.chance(0.5) ? pluralOf(shape) : "shapes";
  const holes = { things, numeric: true };
  return clip("growth", {
    frames,
    marks,
    question: ask("growth", { dice, wording: settings.wording, holes }),
    answer: String(amounts.at(-1)),
    answerKind: "number",
    facts: { shape, colour, amounts },
  });
}
