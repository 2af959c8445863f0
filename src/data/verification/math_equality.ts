/**
 * Whether a reply gives the same mathematical answer as the truth, by math-verify's rules: exact for
 * whole numbers, six decimals where decimals are written, any equal form of an expression, order in
 * tuples but not in sets; `x=3` is 3, and a percentage is its number or its hundredth.
 */
import { type AnswerValue, readAnswer } from "./answer_value.ts";
import { type BoxChoice, findAnswer } from "./boxed_answer.ts";
import type { Expression } from "./expression.ts";
import { areEqualExpressions } from "./expression_value.ts";

/** Compares an answer's text with the true one. */
export function isSameAnswer(truth: string, answer: string): boolean {
  if (truth.trim() !== "" && truth.trim() === answer.trim()) return true;
  return areEqual(readAnswer(truth), readAnswer(answer));
}

/** Finds the answer in a whole reply and compares it. */
export function verifyReply(truth: string, reply: string, boxes: BoxChoice = "last"): boolean {
  const answer = findAnswer(reply, boxes);
  return answer !== undefined && isSameAnswer(truth, answer);
}

function areEqual(truth: AnswerValue, answer: AnswerValue): boolean {
  const assignedTruth = assigned(truth);
  const assignedAnswer = assigned(answer);
  if (truth.kind === "relation" && answer.kind === "relation") {
    return areEqualRelations(truth, answer);
  }
  const [a, b] = [assignedTruth ?? truth, assignedAnswer ?? answer];
  if (a.kind === "expression" && b.kind === "expression") return areEqualNumbers(a, b);
  if (a.kind === "text" && b.kind === "text") return folded(a.text) === folded(b.text);
  if (a.kind === "text" || b.kind === "text") return areEqualSymbols(a, b);
  if (a.kind === "set" && b.kind === "set") return areEqualSets(a.items, b.items);
  if (a.kind === "set" && a.items.length === 1) return areEqual(a.items[0]!, b);
  if (b.kind === "set" && b.items.length === 1) return areEqual(a, b.items[0]!);
  if (a.kind === "tuple" && b.kind === "tuple") {
    return a.brackets === b.brackets && areEqualLists(a.items, b.items);
  }
  if (a.kind === "matrix" && b.kind === "matrix") {
    return a.rows.length === b.rows.length &&
      a.rows.every((row, i) => areEqualLists(row, b.rows[i]!));
  }
  return false;
}

/** A letter may be a constant or a variable: e is 2.718…. */
function areEqualSymbols(a: AnswerValue, b: AnswerValue): boolean {
  const [x, y] = [symbolic(a), symbolic(b)];
  return x !== undefined && y !== undefined && areEqualExpressions(x, y);
}

function folded(text: string): string {
  return text.toLowerCase().replaceAll(/\s+/g, " ").trim();
}

/** The right side of `x = …`; a relation between expressions is none. */
function assigned(value: AnswerValue): AnswerValue | undefined {
  if (value.kind !== "relation" || value.signs.length !== 1 || value.signs[0] !== "=") {
    return undefined;
  }
  const [left, right] = value.sides;
  const isName = left!.kind === "text" ||
    (left!.kind === "expression" && left!.tree.kind === "symbol");
  return isName ? right : undefined;
}

type Numberish = Extract<AnswerValue, { kind: "expression" }>;

function areEqualNumbers(truth: Numberish, answer: Numberish): boolean {
  if (areEqualExpressions(truth.tree, answer.tree)) return true;
  if (truth.percent === answer.percent) return false;
  const [a, b] = [truth, answer].map(({ tree, percent }) => percent ? hundredth(tree) : tree);
  return areEqualExpressions(a!, b!);
}

function hundredth(tree: Expression): Expression {
  const hundred: Expression = { kind: "number", value: 100, isDecimal: false };
  return { kind: "call", name: "divide", of: [tree, hundred] };
}

function areEqualLists(a: readonly AnswerValue[], b: readonly AnswerValue[]): boolean {
  return a.length === b.length && a.every((item, i) => areEqual(item, b[i]!));
}

function areEqualSets(a: readonly AnswerValue[], b: readonly AnswerValue[]): boolean {
  const [left, right] = [distinct(a), distinct(b)];
  return left.length === right.length &&
    left.every((item) => right.some((other) => areEqual(item, other)));
}

function distinct(items: readonly AnswerValue[]): AnswerValue[] {
  const kept: AnswerValue[] = [];
  for (const item of items) if (!kept.some((other) => areEqual(other, item))) kept.push(item);
  return kept;
}

type Relation = Extract<AnswerValue, { kind: "relation" }>;

function areEqualRelations(a: Relation, b: Relation): boolean {
  if (a.signs.join() !== b.signs.join()) return false;
  if (areEqualLists(a.sides, b.sides)) return true;
  if (a.signs.length > 1 || a.signs[0] === "<" || a.signs[0] === "<=") return false;
  if (areEqualLists(a.sides, [...b.sides].reverse())) return true;
  const [x, y] = [difference(a), difference(b)];
  if (!x || !y) return false;
  return areEqualExpressions(x, y) ||
    areEqualExpressions(x, { kind: "call", name: "negate", of: [y] });
}

/** Left side minus right side. */
function difference({ sides: [left, right] }: Relation): Expression | undefined {
  const trees = [left!, right!].map(symbolic);
  return trees[0] && trees[1]
    ? { kind: "call", name: "subtract", of: [trees[0], trees[1]] }
    : undefined;
}

function symbolic(value: AnswerValue): Expression | undefined {
  if (value.kind === "expression") return value.tree;
  return value.kind === "text" && value.text.length === 1
    ? { kind: "symbol", name: value.text }
    : undefined;
}
