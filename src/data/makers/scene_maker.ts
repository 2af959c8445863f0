/** Questions about figures: how many, which colour, which shape, where, beside what, is there one. */
import type { Dice } from "../dice.ts";
import { type ColourName, colourNames } from "../drawing/colour.ts";
import { ask } from "./asking.ts";
import { drawFigures, type Figure, type FigureScene, type ShapeName } from "./figures.ts";
import type { Drawn } from "./reading_maker.ts";
import type { AnswerKind, MakerSettings, Turn } from "./sample.ts";

type Wanted = Pick<Figure, "shape" | "colour">;

export function drawColour(dice: Dice): ColourName {
  return dice.weighted(colourNames.map((name, i) => [name, i < 7 ? 10 : 2] as const));
}

export function drawShape(dice: Dice): ShapeName {
  return dice.weighted<ShapeName>([
    ["circle", 10],
    ["square", 10],
    ["triangle", 10],
    ["star", 2],
    ["rectangle", 2],
    ["diamond", 1],
    ["heart", 1],
    ["cross", 1],
  ]);
}

/** `heart` and `cross` have irregular plurals among the names. */
export function pluralOf(shape: ShapeName): string {
  return shape === "cross" ? "crosses" : `${shape}s`;
}

const things = ["shapes", "shapes", "shapes", "objects", "objects", "figures", "things", "items"];

function isEasy(dice: Dice, { lengthMax, spread }: MakerSettings): boolean {
  return lengthMax < 5 && !dice.chance(spread * 0.8 + 0.15);
}

function factsOf(figures: readonly Figure[]): Record<string, unknown> {
  const rounded = figures.map(({ shape, colour, x, y, radius }) => ({
    shape,
    colour,
    x: Math.round(x),
    y: Math.round(y),
    radius: Math.round(radius),
  }));
  return { figures: rounded };
}

function drawn(
  task: string,
  { canvas, marks, figures }: FigureScene,
  { turns, answerKind }: { turns: Turn[]; answerKind: AnswerKind },
): Drawn {
  const truth = { answerKind, facts: factsOf(figures) };
  return { task, pictures: [canvas], isClip: false, turns, marks, truth };
}

/** Figures of one or many shapes and colours. */
function drawWanted(
  count: number,
  { dice, oneShape, oneColour }: { dice: Dice; oneShape: boolean; oneColour: boolean },
): Wanted[] {
  const [shape, colour] = [drawShape(dice), drawColour(dice)];
  return Array.from({ length: count }, () => ({
    shape: oneShape ? shape : drawShape(dice),
    colour: oneColour ? colour : drawColour(dice),
  }));
}

export function makeCount(dice: Dice, settings: MakerSettings): Drawn {
  const easy = isEasy(dice, settings);
  const count = dice.weighted([8, 10, 12, 14, 15, 15, 15, 10, 10].map((w, i) => [i + 1, w]));
  const wanted = drawWanted(count, {
    dice,
    oneShape: easy || dice.chance(0.5),
    oneColour: easy || dice.chance(0.5),
  });
  const scene = drawFigures(wanted, { dice, settings, easy });
  const { wording } = settings;
  const shapes = [...new Set(wanted.map(({ shape }) => shape))];
  let [answer, name] = [count, dice.pick(things)];
  if (shapes.length === 1 && dice.chance(0.45)) name = pluralOf(shapes[0]!);
  else if (shapes.length > 1 && dice.chance(0.15)) {
    const shape = dice.pick(shapes);
    name = pluralOf(shape);
    answer = wanted.filter((figure) => figure.shape === shape).length;
  }
  const question = ask("count", { dice, wording, holes: { things: name, numeric: true } });
  return drawn("count", scene, {
    turns: [{ question, answer: String(answer) }],
    answerKind: "number",
  });
}

function fewFigures(dice: Dice): number {
  return dice.weighted([[1, 40], [2, 15], [3, 15], [4, 12], [5, 10], [6, 8]]);
}

export function makeColour(dice: Dice, settings: MakerSettings): Drawn {
  const easy = isEasy(dice, settings);
  const oneShape = easy || dice.chance(0.6);
  const wanted = drawWanted(fewFigures(dice), { dice, oneShape, oneColour: true });
  const scene = drawFigures(wanted, { dice, settings, easy });
  const { shape, colour } = wanted[0]!;
  const one = oneShape && dice.chance(0.5) ? shape : dice.pick(["shape", "shape", "object"]);
  const named = oneShape && dice.chance(0.45) ? pluralOf(shape) : dice.pick(things);
  const holes = { one, things: named };
  const question = ask("colour", { dice, wording: settings.wording, holes });
  return drawn("colour", scene, { turns: [{ question, answer: colour }], answerKind: "word" });
}

export function makeShape(dice: Dice, settings: MakerSettings): Drawn {
  const easy = isEasy(dice, settings);
  const oneColour = easy || dice.chance(0.6);
  const wanted = drawWanted(fewFigures(dice), { dice, oneShape: true, oneColour });
  const scene = drawFigures(wanted, { dice, settings, easy });
  const question = ask("shape", { dice, wording: settings.wording });
  const answer = wanted[0]!.shape;
  return drawn("shape", scene, { turns: [{ question, answer }], answerKind: "word" });
}

const sides = ["left", "right", "top", "bottom", "center"] as const;

export function makePlace(dice: Dice, settings: MakerSettings): Drawn {
  const side = dice.pick(sides);
  const wanted = drawWanted(1, { dice, oneShape: true, oneColour: true });
  const choose = (width: number, height: number) => {
    const radius = dice.between(0.05, 0.17) * Math.min(width, height);
    const [far, near] = [dice.between(0, 0.14), dice.between(-0.1, 0.1)];
    const [x, y] = {
      left: [far * width + radius, height / 2 + near * height],
      right: [width - far * width - radius, height / 2 + near * height],
      top: [width / 2 + near * width, far * height + radius],
      bottom: [width / 2 + near * width, height - far * height - radius],
      center: [width / 2 + near * 0.6 * width, height / 2 + dice.between(-0.06, 0.06) * height],
    }[side] as [number, number];
    return [{ x, y, radius }];
  };
  const scene = drawFigures(wanted, { dice, settings, choose });
  const one = dice.chance(0.7) ? wanted[0]!.shape : dice.pick(["shape", "object"]);
  const question = ask("place", { dice, wording: settings.wording, holes: { one } });
  return drawn("place", scene, { turns: [{ question, answer: side }], answerKind: "word" });
}

/** Two to four different figures; the relation of the asked pair is beyond doubt. */
export function makeRelation(dice: Dice, settings: MakerSettings): Drawn {
  const shapes = dice.sample<ShapeName>(["circle", "square", "triangle", "star"], 2);
  const wanted = shapes.map((shape) => ({ shape, colour: drawColour(dice) }));
  const relation = dice.pick(["left of", "right of", "above", "below"]);
  const choose = (width: number, height: number) => {
    const radius = dice.between(0.08, 0.17) * Math.min(width, height);
    const isAcross = relation === "left of" || relation === "right of";
    const [a, b] = [dice.between(0.2, 0.32), dice.between(0.68, 0.8)];
    const drift = dice.between(0.3, 0.7);
    const [first, second] = relation === "left of" || relation === "above" ? [a, b] : [b, a];
    const at = (share: number) => {
      const jitter = drift + dice.between(-0.08, 0.08);
      return isAcross
        ? { x: share * width, y: jitter * height, radius }
        : { x: jitter * width, y: share * height, radius };
    };
    return [at(first), at(second)];
  };
  const scene = drawFigures(wanted, { dice, settings, choose });
  if (dice.chance(0.5)) {
    const holes = { x: shapes[1]!, y: relation };
    const question = ask("relation", { dice, wording: settings.wording, holes });
    return drawn("relation", scene, {
      turns: [{ question, answer: shapes[0]! }],
      answerKind: "word",
    });
  }
  const asked = dice.pick(wanted);
  const question = ask("colourOf", {
    dice,
    wording: settings.wording,
    holes: { x: asked.shape },
  });
  const turns = [{ question, answer: asked.colour }];
  return drawn("relation", scene, { turns, answerKind: "word" });
}

export function makeExists(dice: Dice, settings: MakerSettings): Drawn {
  const wanted = drawWanted(dice.integer(1, 4), { dice, oneShape: false, oneColour: false });
  const scene = drawFigures(wanted, { dice, settings });
  const isThere = dice.chance(0.5);
  const names = wanted.map(({ shape, colour }) => `${colour} ${shape}`);
  let asked = dice.pick(names);
  while (!isThere && names.includes(asked)) {
    // A near miss: one of the two words is right.
    const { shape, colour } = dice.pick(wanted);
    asked = dice.chance(0.5) ? `${drawColour(dice)} ${shape}` : `${colour} ${drawShape(dice)}`;
  }
  const question = ask("exists", { dice, wording: settings.wording, holes: { x: asked } })
    .replace(" a orange", " an orange");
  const answer = isThere ? "yes" : "no";
  return drawn("exists", scene, { turns: [{ question, answer }], answerKind: "yes_no" });
}

export function makeMore(dice: Dice, settings: MakerSettings): Drawn {
  const [a, b] = dice.sample<ShapeName>(["circle", "square", "triangle", "star"], 2);
  const many = dice.integer(2, 5);
  const few = dice.integer(1, many - 1);
  const colours = [drawColour(dice), drawColour(dice)];
  const wanted = dice.shuffled([
    ...Array.from({ length: many }, () => ({ shape: a!, colour: colours[0]! })),
    ...Array.from({ length: few }, () => ({ shape: b!, colour: colours[1]! })),
  ]);
  const scene = drawFigures(wanted, { dice, settings });
  const [x, y] = dice.shuffled([pluralOf(a!), pluralOf(b!)]);
  const question = ask("more", { dice, wording: settings.wording, holes: { x: x!, y: y! } });
  const answer = pluralOf(a!);
  return drawn("more", scene, { turns: [{ question, answer }], answerKind: "word" });
}
