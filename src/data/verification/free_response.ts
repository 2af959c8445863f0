/**
 * Turns multiple-choice questions with numeric or symbolic answers into free-response ones, so that
 * guessing a letter earns nothing. Questions that need their options stay as they are.
 */
import { readAnswer } from "./answer_value.ts";

export interface Choice {
  readonly letter: string;
  readonly text: string;
}

export interface FreeResponse {
  readonly question: string;
  readonly answer: string;
}

const OPTION = /(?:^|\n|\s)\(?([A-H])[).:]\s*(.+?)(?=\s*(?:\n|\s\(?[A-H][).:]\s)|\s*$)/gs;

/** Reads options off the end of a question: `(A) 3 (B) 4`, or one per line as `A. 3`. */
export function readChoices(question: string): { stem: string; choices: Choice[] } {
  const first = /(?:^|\n|\s)\(?A[).:]\s/.exec(question);
  if (!first) return { stem: question.trim(), choices: [] };
  const list = question.slice(first.index);
  const choices = [...list.matchAll(OPTION)].map(([, letter, text]) => ({
    letter: letter!,
    text: text!.trim(),
  }));
  const isOrdered = choices.every(({ letter }, i) => letter.charCodeAt(0) === 65 + i);
  if (choices.length < 2 || !isOrdered) return { stem: question.trim(), choices: [] };
  const stem = question.slice(0, first.index).replace(/\s*(choices|options)\s*:?\s*$/i, "").trim();
  return { stem, choices };
}

/** Options that only make sense beside the others. */
const RELATIVE = /\b(all|none|both|neither|either|any) of|\babove\b|\bcannot be determined\b/i;

/** Stems that ask for a choice. */
const CHOOSING = /\bwhich (of|one|option|statement)\b|\bfollowing\b|\bexcept\b|\bnot true\b/i;

/**
 * The question without options, answered by the right option's text; undefined when an option refers
 * to others, the stem asks to choose, or the answer is neither number nor formula.
 */
export function toFreeResponse(question: string, letter: string): FreeResponse | undefined {
  const { stem, choices } = readChoices(question);
  const right = choices.find((choice) => choice.letter === letter.trim().toUpperCase());
  if (!right || stem === "" || CHOOSING.test(stem)) return undefined;
  if (choices.some(({ text }) => RELATIVE.test(text))) return undefined;
  const value = readAnswer(right.text);
  if (value.kind === "text") return undefined;
  if (value.kind === "set" && value.items.some(({ kind }) => kind === "text")) return undefined;
  return { question: stem, answer: right.text };
}
