/**
 * Arithmetic in pictures with chains of thought: sums on the page, and small problems about counted
 * figures. Answers are whole numbers, so a rule can check them.
 */
import type { Dice } from "../dice.ts";
import { ask, phrase } from "./asking.ts";
import { drawFigures, type ShapeName } from "./figures.ts";
import { drawLettering } from "./lettering_scene.ts";
import type { Drawn } from "./reading_maker.ts";
import type { MakerSettings } from "./sample.ts";
import { drawColour, pluralOf } from "./scene_maker.ts";

type Operator = "+" | "-" | "×";

export interface Expression {
  /** As it is drawn: `37+45`. */
  readonly text: string;
  readonly value: number;
  /** Steps in words, one calculation each. */
  readonly steps: readonly string[];
}

/** Two or three whole numbers below a hundred; results are never negative. */
export function drawExpression(dice: Dice, digits: number): Expression {
  const operator = dice.weighted<Operator>([["+", 4], ["-", 3], ["×", 2]]);
  const top = 10 ** digits - 1;
  if (operator === "×") {
    const [a, b] = [dice.integer(2, 9), dice.integer(2, digits > 1 ? 12 : 9)];
    return { text: `${a}×${b}`, value: a * b, steps: [`${a}×${b}=${a * b}`] };
  }
  const [a, b] = [dice.integer(0, top), dice.integer(0, top)];
  if (operator === "+") {
    if (digits === 1 && dice.chance(0.25)) {
      const c = dice.integer(0, 9);
      const steps = [`${a}+${b}=${a + b}`, `${a + b}+${c}=${a + b + c}`];
      return { text: `${a}+${b}+${c}`, value: a + b + c, steps };
    }
    return { text: `${a}+${b}`, value: a + b, steps: additionSteps(a, b) };
  }
  const [large, small] = [Math.max(a, b), Math.min(a, b)];
  return { text: `${large}-${small}`, value: large - small, steps: subtractionSteps(large, small) };
}

/**
 * Column by column, as one learns at school, and the whole at the end: every step but the last is a
 * fact of single digits, and the last copies what stands there. Two numbers below a hundred.
 */
function additionSteps(a: number, b: number): string[] {
  const whole = `${a}+${b}=${a + b}`;
  if (a < 10 && b < 10) return [whole];
  const [ones, tens] = [a % 10 + b % 10, [a, b].map(tensOf).filter((digit) => digit > 0)];
  const steps = [`${a % 10}+${b % 10}=${ones}`];
  const [first, second] = tens;
  const sum = first! + (second ?? 0);
  if (second !== undefined) steps.push(`${first}+${second}=${sum}`);
  if (ones >= 10) steps.push(`${sum}+1=${sum + 1}`);
  return [...steps, whole];
}

/** A ten that the ones borrow is added to the smaller number's tens. */
export function subtractionSteps(a: number, b: number): string[] {
  const whole = `${a}-${b}=${a - b}`;
  if (a < 10) return [whole];
  const isBorrowed = a % 10 < b % 10;
  const ones = a % 10 + (isBorrowed ? 10 : 0);
  const steps = [`${ones}-${b % 10}=${ones - b % 10}`];
  const [tens, fewer] = [tensOf(a), tensOf(b) + (isBorrowed ? 1 : 0)];
  if (isBorrowed && tensOf(b) > 0) steps.push(`${tensOf(b)}+1=${fewer}`);
  if (fewer > 0) steps.push(`${tens}-${fewer}=${tens - fewer}`);
  return [...steps, whole];
}

const tensOf = (value: number): number => Math.floor(value / 10);

/** The final answer as the thinking mode wants it. */
export function boxed(answer: string): string {
  return `\\boxed{${answer}}`;
}

export function makeArithmetic(dice: Dice, settings: MakerSettings): Drawn {
  const digits = settings.lengthMax < 5 ? 1 : dice.weighted([[1, 3], [2, 2]]);
  const { text, value, steps } = drawExpression(dice, digits);
  const shown = text + dice.pick(["", "", "=", "=?"]);
  const lettering = drawLettering([shown], { dice, settings });
  const answer = String(value);
  const question = ask("sum", { dice, wording: settings.wording, holes: { numeric: true } });
  return {
    task: "arithmetic",
    pictures: [lettering.canvas],
    isClip: false,
    turns: [{ question, thought: `The image shows ${text}. ${steps.join(", ")}.`, answer }],
    marks: lettering.marks,
    truth: {
      answerKind: "number",
      facts: { expression: text, steps, value, face: lettering.faceName },
    },
  };
}

const sums = ["What is {x}?", "Calculate {x}.", "How much is {x}?", "{x}=", "Solve {x}."];

/** The same as a text without a picture: arithmetic itself, at a fraction of the cost. */
export function makeTextSum(dice: Dice, settings: MakerSettings): Drawn {
  const digits = settings.lengthMax < 5 ? 1 : dice.weighted([[1, 2], [2, 3]]);
  const { text, value, steps } = drawExpression(dice, digits);
  const holes = { x: text, numeric: true };
  const question = phrase(sums, { dice, wording: settings.wording, holes });
  return {
    task: "text_sum",
    pictures: [],
    isClip: false,
    turns: [{ question, thought: `${steps.join(", ")}.`, answer: String(value) }],
    marks: [],
    truth: { answerKind: "number", facts: { expression: text, steps, value } },
  };
}

const additions = [
  "How many {s} are there if {y} more are added?",
  "How many {s} would there be with {y} more?",
];
const removals = [
  "How many {s} are left if {y} are removed?",
  "How many {s} remain if {y} are taken away?",
];
const doublings = ["What is twice the number of {s}?", "What is double the number of {s}?"];

/** Figures to count, then to calculate with. */
export function makeWordProblem(dice: Dice, settings: MakerSettings): Drawn {
  const count = dice.integer(2, 7);
  const shape = dice.pick<ShapeName>(["circle", "square", "triangle", "star"]);
  const wanted = Array.from({ length: count }, () => ({ shape, colour: drawColour(dice) }));
  const { canvas, marks } = drawFigures(wanted, { dice, settings });
  const things = dice.chance(0.5) ? pluralOf(shape) : "shapes";
  const other = dice.integer(1, 9);
  const fewer = dice.integer(2, count);
  const [templates, amount, step, value] = dice.pick(
    [
      [additions, other, `${count}+${other}=${count + other}`, count + other],
      [removals, fewer, `${count}-${fewer}=${count - fewer}`, count - fewer],
      [doublings, 2, `2×${count}=${2 * count}`, 2 * count],
    ] as const,
  );
  const question = phrase(templates, {
    dice,
    wording: settings.wording,
    holes: { things, y: String(amount), numeric: true },
  });
  return {
    task: "word_problem",
    pictures: [canvas],
    isClip: false,
    turns: [{ question, thought: `There are ${count} ${things}. ${step}.`, answer: String(value) }],
    marks,
    truth: { answerKind: "number", facts: { count, steps: [step], value } },
  };
}
