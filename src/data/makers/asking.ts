/** Turns a table of wordings into one question: fills holes, adds suffixes, spells carelessly. */
import type { Dice } from "../dice.ts";
import {
  numberSuffixes,
  pictureWords,
  type QuestionKind,
  questions,
  shortAnswerSuffixes,
  wordings,
} from "./phrases_table.ts";

/** What stands in a question's holes. */
export interface Holes {
  readonly things?: string;
  readonly one?: string;
  readonly x?: string;
  readonly y?: string;
  /** The answer is a number: some suffixes say so. */
  readonly numeric?: boolean;
}

const parsed: Readonly<Record<QuestionKind, readonly string[]>> = Object.fromEntries(
  Object.entries(questions).map(([kind, text]) => [kind, wordings(text)]),
) as Record<QuestionKind, string[]>;

/** A question of a kind. `wording` 0 asks plainly, 1 varies as people do. */
export function ask(
  kind: QuestionKind,
  { dice, wording, holes = {} }: { dice: Dice; wording: number; holes?: Holes },
): string {
  return phrase(parsed[kind], { dice, wording, holes });
}

/** The same with wordings of the caller's own. */
export function phrase(
  templates: readonly string[],
  { dice, wording, holes = {} }: { dice: Dice; wording: number; holes?: Holes },
): string {
  const values: Record<string, string> = {
    o: dice.weighted([[pictureWords[0], 6], [pictureWords[1], 4], [pictureWords[2], 1]]),
    c: dice.chance(2 / 3) ? "color" : "colour",
    s: holes.things ?? "shapes",
    1: holes.one ?? "shape",
    x: holes.x ?? "",
    y: holes.y ?? "",
  };
  const text = dice.pick(templates).replaceAll(/\{(\w)\}/g, (_, hole: string) => values[hole]!);
  const draw = dice.unit();
  if (draw < 0.12 * wording) {
    const numeric = holes.numeric && dice.chance(0.7);
    return text + dice.pick<string>(numeric ? numberSuffixes : shortAnswerSuffixes);
  }
  const bare = draw < 0.2 * wording ? text.replace(/[?.]$/, "") : text;
  const lower = draw < 0.16 * wording || draw > 1 - 0.03 * wording;
  return lower && !/^OCR/.test(bare) ? bare[0]!.toLowerCase() + bare.slice(1) : bare;
}
