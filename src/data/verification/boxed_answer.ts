/** Finds the answer in a reply: `\boxed{…}` with matched braces, or other places where answers stand. */

const BOX = /\\boxed\s*/g;

/** Contents of all complete boxes, in order; of nested ones the innermost. */
export function boxedAnswers(text: string): string[] {
  const found: string[] = [];
  for (const match of text.matchAll(BOX)) {
    const start = match.index + match[0].length;
    if (text[start] !== "{") {
      const [digit] = /^\w/.exec(text.slice(start)) ?? [];
      if (digit !== undefined && match[0] !== "\\boxed") found.push(digit);
      continue;
    }
    const end = closingBrace(text, start);
    if (end === undefined) continue;
    const inside = text.slice(start + 1, end);
    if (!/\\boxed\s*\{/.test(inside)) found.push(inside.trim());
  }
  return found;
}

/** The last complete box with its command, as in `\boxed{{5}}`; undefined when there is none. */
export function lastBoxText(text: string): string | undefined {
  const at = Math.max(text.lastIndexOf("\\boxed"), text.lastIndexOf("\\fbox"));
  if (at < 0) return undefined;
  if (text.startsWith("\\boxed ", at)) return text.slice(at).split("$")[0];
  const open = text.indexOf("{", at);
  const end = open < 0 ? undefined : closingBrace(text, open);
  return end === undefined ? undefined : text.slice(at, end + 1);
}

/** Index of the brace that closes the one at `open`. */
export function closingBrace(text: string, open: number): number | undefined {
  let depth = 0;
  for (let i = open; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "{") depth++;
    else if (text[i] === "}" && --depth === 0) return i;
  }
  return undefined;
}

/** Which boxes count when there are several. */
export type BoxChoice = "last" | "all";

/**
 * The answer's text: boxes first; else `$…$` after "final answer is", any last `$…$` or `\[…\]`; else
 * the number after "answer is", or the last number. Undefined when nothing looks like an answer.
 */
export function findAnswer(reply: string, boxes: BoxChoice = "last"): string | undefined {
  const boxed = boxedAnswers(reply).filter((text) => text !== "");
  if (boxed.length > 0) {
    return boxes === "last" ? boxed.at(-1) : [...new Set(boxed)].join(",");
  }
  if (/\\f?boxed|\\fbox/.test(reply)) return undefined;
  const [, afterFinal] = /final answer is:?\s*\$([^$]+)\$/i.exec(reply) ?? [];
  if (afterFinal !== undefined) return afterFinal.trim();
  const formulas = [...reply.matchAll(/\$\$?([^$]+)\$\$?|\\\[(.+?)\\\]|\\\((.+?)\\\)/gs)];
  const formula = formulas.at(-1);
  if (formula) return (formula[1] ?? formula[2] ?? formula[3])!.trim();
  return findNumber(reply);
}

const NUMBER = String.raw`-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+)(?:\s*/\s*\d+)?\s*%?`;

function findNumber(reply: string): string | undefined {
  const anchored = new RegExp(String.raw`answer\s+is:?\s*(${NUMBER})`, "i").exec(reply);
  if (anchored) return anchored[1]!.trim();
  const all = reply.match(new RegExp(NUMBER, "g"));
  return all?.at(-1)?.trim();
}
