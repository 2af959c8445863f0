/** Pictures to read: words, random strings, numbers, single digits, two lines, handwriting. */
import type { Dice } from "../dice.ts";
import { ask } from "./asking.ts";
import { drawHandwrittenDigit } from "./handwriting.ts";
import { drawLettering, type Lettering } from "./lettering_scene.ts";
import type { AnswerKind, MakerSettings, Sample, Turn } from "./sample.ts";
import { inventWord, randomString } from "./words_table.ts";

export type Drawn = Omit<Sample, "id">;

type Settings = MakerSettings;

/** A word of a length, from the settings' list when it has one. */
function wordOf(length: number, dice: Dice, settings: Settings): string {
  const words = settings.words.filter((word) => word.length === length);
  if (words.length > 0 && dice.chance(0.75)) return dice.pick(words);
  return inventWord(length, dice);
}

function textLength(dice: Dice, lengthMax: number): number {
  if (lengthMax < 5) return dice.integer(Math.max(1, lengthMax - 2), lengthMax);
  const weights = [1, 2, 12, 15, 15, 11, 9, 8] as const;
  return dice.weighted(
    weights.slice(0, lengthMax).map((weight, i) => [i + 1, weight] as const),
  );
}

/** Capitals now and then, where upper and lower case cannot be mistaken for each other. */
function perhapsCapital(word: string, dice: Dice, settings: Settings): string {
  if (word.length < 3 || settings.lengthMax < 5) return word;
  const draw = dice.unit();
  if (draw < 0.03) return word[0]!.toUpperCase() + word.slice(1);
  if (draw < 0.06 && /[^cosuvwxzpkijy]/.test(word)) return word.toUpperCase();
  return word;
}

function drawn(
  task: string,
  { canvas, marks, faceName, size }: Lettering,
  { turns, text, answerKind }: { turns: Turn[]; text: string; answerKind: AnswerKind },
): Drawn {
  const facts = { text, face: faceName, fontPixels: Math.round(size) };
  return {
    task,
    pictures: [canvas],
    isClip: false,
    turns,
    marks,
    truth: { answerKind, facts },
  };
}

function readWord(text: string, task: string, dice: Dice, settings: Settings): Drawn {
  const { wording } = settings;
  const turns = [{ question: ask("word", { dice, wording }), answer: text }];
  if (dice.chance(0.04 * wording)) {
    const question = ask("letters", { dice, wording, holes: { numeric: true } });
    turns.push({ question, answer: String(text.length) });
  }
  const lettering = drawLettering([text], { dice, settings });
  return drawn(task, lettering, { turns, text, answerKind: "word" });
}

export function makeWord(dice: Dice, settings: Settings): Drawn {
  const word = wordOf(textLength(dice, Math.min(8, settings.lengthMax)), dice, settings);
  return readWord(perhapsCapital(word, dice, settings), "word", dice, settings);
}

export function makeString(dice: Dice, settings: Settings): Drawn {
  const length = dice.integer(Math.min(3, settings.lengthMax), Math.min(6, settings.lengthMax));
  return readWord(randomString(length, dice, dice.chance(0.1)), "string", dice, settings);
}

export function makeNumber(dice: Dice, settings: Settings): Drawn {
  const { wording } = settings;
  const most = Math.min(5, settings.lengthMax);
  const digits = dice.weighted(
    [2, 4, 6, 4, 4].slice(0, most).map((weight, i) => [i + 1, weight] as const),
  );
  const text = String(dice.integer(digits === 1 ? 0 : 10 ** (digits - 1), 10 ** digits - 1));
  const kind = dice.chance(0.85) ? "number" : "word";
  const question = ask(kind, { dice, wording, holes: { numeric: true } });
  const lettering = drawLettering([text], { dice, settings });
  return drawn("number", lettering, {
    turns: [{ question, answer: text }],
    text,
    answerKind: "number",
  });
}

export function makeDigit(dice: Dice, settings: Settings): Drawn {
  const text = String(dice.integer(0, 9));
  const kind = dice.chance(0.7) ? "digit" : "number";
  const question = ask(kind, { dice, wording: settings.wording, holes: { numeric: true } });
  const lettering = drawLettering([text], { dice, settings });
  return drawn("digit", lettering, {
    turns: [{ question, answer: text }],
    text,
    answerKind: "number",
  });
}

export function makeTwoLines(dice: Dice, settings: Settings): Drawn {
  const most = Math.max(1, Math.min(7, settings.lengthMax));
  const lines = [0, 1].map(() => wordOf(textLength(dice, most), dice, settings));
  const text = lines.join("\n");
  const question = ask(dice.chance(0.7) ? "lines" : "word", { dice, wording: settings.wording });
  const lettering = drawLettering(lines, { dice, settings });
  return drawn("two_lines", lettering, {
    turns: [{ question, answer: text }],
    text,
    answerKind: "text",
  });
}

export function makeHandwriting(dice: Dice, settings: Settings): Drawn {
  const digit = dice.integer(0, 9);
  const { canvas, marks } = drawHandwrittenDigit(digit, { dice, settings });
  const kind = dice.chance(0.7) ? "digit" : "number";
  const question = ask(kind, { dice, wording: settings.wording, holes: { numeric: true } });
  return {
    task: "handwriting",
    pictures: [canvas],
    isClip: false,
    turns: [{ question, answer: String(digit) }],
    marks,
    truth: { answerKind: "number", facts: { text: String(digit), face: "handwriting" } },
  };
}
