/**
 * Answers as mathematical objects: expressions, sets and lists, tuples and intervals, relations,
 * matrices, or just text. Reads them from LaTeX or plain notation.
 */
import { type Expression, parseExpression } from "./expression.ts";

export type RelationSign = "=" | "<" | "<=" | "!=";

export type AnswerValue =
  | { readonly kind: "expression"; readonly tree: Expression; readonly percent: boolean }
  /** Order does not count: `1, 2`, `\{1,2\}`, `\pm 2`, `[0,1] \cup [2,3]`. */
  | { readonly kind: "set"; readonly items: readonly AnswerValue[] }
  /** Order and brackets count: tuples and intervals. */
  | { readonly kind: "tuple"; readonly brackets: string; readonly items: readonly AnswerValue[] }
  /** Chains like 1 < x < 3 have three sides; `>` is turned around. */
  | {
    readonly kind: "relation";
    readonly signs: readonly RelationSign[];
    readonly sides: readonly AnswerValue[];
  }
  | { readonly kind: "matrix"; readonly rows: readonly (readonly AnswerValue[])[] }
  | { readonly kind: "text"; readonly text: string };

/** Bound of an answer's text: longer ones are text. */
const ANSWER_CHARS_MAX = 2000;

export function readAnswer(raw: string): AnswerValue {
  const text = clean(raw);
  if (text.length > ANSWER_CHARS_MAX) return { kind: "text", text };
  return readMatrix(text) ?? readRelation(text) ?? readUnion(text) ?? readBrackets(text) ??
    readList(text) ?? readSigns(text) ?? readNumberish(text) ?? { kind: "text", text };
}

/** Removes what changes no value: spacing, sizes of brackets, units, money signs, degrees. */
function clean(raw: string): string {
  let text = raw.trim();
  const [, inside] = /^\$([^$]*)\$$/.exec(text) ?? [];
  if (inside !== undefined) text = inside;
  text = text
    .replaceAll(/\\\$|\$/g, "")
    .replaceAll(/\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|\\limits|\\bigg?|\\Bigg?/g, "")
    .replaceAll(/\\[,;:! ]|\\q?quad|~/g, " ")
    .replaceAll(/(\d)\{,\}(?=\d{3})/g, "$1,")
    .replaceAll(/\\%/g, "%")
    .replaceAll(/\^\s*\{?\s*\\circ\s*\}?|°|\\degree/g, "")
    .replaceAll(/\\(?:mathrm|mathbf|textbf|mathit|textit|operatorname|mbox|rm)\s*(?=\{)/g, "\\text")
    .trim();
  const [, whole] = /^\\text\{([^{}]*)\}$/.exec(text) ?? [];
  if (whole !== undefined) return whole.trim();
  return text
    .replaceAll(/\\text\{\s*(or|and)\s*\}|(?<=\d\s*)\b(or|and)\b(?=\s*-?[\d\\])/g, ",")
    // A unit: words behind a value.
    .replaceAll(/(?<=[\d})])\s*\\text\{[^{}]*\}(\^\{?\d\}?)?/g, "")
    .replaceAll(/\\text\{([^{}]*)\}/g, "$1")
    .trim();
}

function readMatrix(text: string): AnswerValue | undefined {
  const [, , body] =
    /^\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}$/s.exec(text) ?? [];
  if (body === undefined) return undefined;
  const rows = body.split("\\\\").filter((row) => row.trim() !== "");
  return { kind: "matrix", rows: rows.map((row) => row.split("&").map(readAnswer)) };
}

const signs: Readonly<Record<string, RelationSign>> = {
  "=": "=",
  "<": "<",
  "\\lt": "<",
  "\\le": "<=",
  "\\leq": "<=",
  "≤": "<=",
  "<=": "<=",
  "\\ne": "!=",
  "\\neq": "!=",
  "\\in": "=",
};

const turned: Readonly<Record<string, string>> = {
  ">": "<",
  "\\gt": "<",
  "\\ge": "\\le",
  "\\geq": "\\le",
  "≥": "\\le",
  ">=": "<=",
};

const RELATION = /(<=|>=|=|<|>|≤|≥|\\(?:leq?|geq?|lt|gt|neq?|in)(?![a-zA-Z]))/;

function readRelation(text: string): AnswerValue | undefined {
  const parts = text.split(RELATION).map((part) => part.trim());
  if (parts.length < 3 || parts.some((part) => part === "") || splitTop(text, ",").length > 1) {
    return undefined;
  }
  let sides = parts.filter((_, i) => i % 2 === 0);
  let found = parts.filter((_, i) => i % 2 === 1);
  if (found.every((sign) => turned[sign] !== undefined)) {
    sides = sides.reverse();
    found = found.reverse().map((sign) => turned[sign]!);
  }
  const known = found.map((sign) => signs[sign]);
  if (known.some((sign) => sign === undefined)) return undefined;
  return { kind: "relation", signs: known as RelationSign[], sides: sides.map(readAnswer) };
}

function readUnion(text: string): AnswerValue | undefined {
  const parts = text.split(/\\cup|∪/);
  return parts.length < 2 ? undefined : { kind: "set", items: parts.map(readAnswer) };
}

function readBrackets(text: string): AnswerValue | undefined {
  const isSet = /^(\\\{|\{).*(\\\}|\})$/s.test(text);
  const inside = isSet ? text.replace(/^\\?\{/, "").replace(/\\?\}$/, "") : text.slice(1, -1);
  const items = splitTop(inside, ",");
  if (isSet && text.startsWith("\\{")) {
    const items = inside.trim() === "" ? [] : splitTop(inside, ",");
    return { kind: "set", items: items.map(readAnswer) };
  }
  if (!/^[([].*[)\]]$/s.test(text) || items.length < 2) return undefined;
  if (!isBalanced(inside)) return undefined;
  const brackets = text[0]! + text.at(-1)!;
  return { kind: "tuple", brackets, items: items.map(readAnswer) };
}

/** Brackets of a tuple or interval must be a pair: `(1+2)(3,4)` is none. */
function isBalanced(text: string): boolean {
  let depth = 0;
  for (const character of text) {
    if ("([{".includes(character)) depth++;
    if (")]}".includes(character) && --depth < 0) return false;
  }
  return depth === 0;
}

function readList(text: string): AnswerValue | undefined {
  if (THOUSANDS.test(text)) return undefined;
  const items = splitTop(text, ",");
  return items.length < 2 ? undefined : { kind: "set", items: items.map(readAnswer) };
}

const THOUSANDS = /^-?\d{1,3}(,\d{3})+(\.\d+)?\s*%?$/;

/** Splits at separators outside of brackets. */
function splitTop(text: string, separator: string): string[] {
  const parts: string[] = [];
  let [depth, start] = [0, 0];
  for (let i = 0; i < text.length; i++) {
    if ("([{".includes(text[i]!)) depth++;
    else if (")]}".includes(text[i]!)) depth--;
    else if (text[i] === separator && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}

/** `\pm a` is a and -a, also behind a sum. */
function readSigns(text: string): AnswerValue | undefined {
  const parts = text.split(/\\pm|±/);
  if (parts.length !== 2) return undefined;
  const items = ["+", "-"].map((sign) => readAnswer(`${parts[0]}${sign}${parts[1]}`));
  return items.every(({ kind }) => kind === "expression") ? { kind: "set", items } : undefined;
}

function readNumberish(text: string): AnswerValue | undefined {
  if (/^\\(emptyset|varnothing)$|^∅$/.test(text)) return { kind: "set", items: [] };
  const percent = /%$/.test(text);
  let bare = percent ? text.slice(0, -1).trim() : text;
  if (THOUSANDS.test(bare)) bare = bare.replaceAll(",", "");
  // A lone letter, also in brackets, is the name of an option.
  const [, letter] = /^\(?([A-Za-z])\)?\.?$/.exec(bare) ?? [];
  if (letter !== undefined) return { kind: "text", text: letter };
  const tree = parseExpression(bare);
  if (!tree) return undefined;
  // Words would be products of letters.
  if (/^[A-Za-z]{2,}$|(^|\s)[A-Za-z]{3,}(\s|$)/.test(bare)) return { kind: "text", text: bare };
  return { kind: "expression", tree, percent };
}
