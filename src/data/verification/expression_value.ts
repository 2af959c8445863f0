/** What expressions are worth: evaluation in floating point, and equality by probing variables. */
import { seededRandom } from "@/random.ts";
import type { Expression } from "./expression.ts";

/** Constants by name; `e` and π only: `i` is a variable like any other. */
const constants: Readonly<Record<string, number>> = { pi: Math.PI, e: Math.E, infty: Infinity };

/** Names of the variables in an expression. */
export function variablesOf(node: Expression, into = new Set<string>()): Set<string> {
  if (node.kind === "symbol" && !Object.hasOwn(constants, node.name)) into.add(node.name);
  if (node.kind === "call") { for (const part of node.of) variablesOf(part, into); }
  return into;
}

/** Value with the given variables; NaN outside of a function's domain. */
export function evaluate(node: Expression, variables: ReadonlyMap<string, number>): number {
  if (node.kind === "number") return node.value;
  if (node.kind === "symbol") {
    return variables.get(node.name) ?? constants[node.name] ?? NaN;
  }
  const values = node.of.map((part) => evaluate(part, variables));
  const [a, b] = values as [number, number];
  const known = operations[node.name];
  return known ? known(a, b) : NaN;
}

const operations: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
  negate: (a) => -a,
  power: realPower,
  factorial: (n) => Number.isInteger(n) && n >= 0 && n <= 170 ? product(1, n) : NaN,
  binomial: (n, k) =>
    Number.isInteger(n) && Number.isInteger(k) && k >= 0 && k <= n && n <= 170
      ? Math.round(product(n - k + 1, n) / product(1, k))
      : NaN,
  abs: Math.abs,
  floor: Math.floor,
  ceiling: Math.ceil,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  cot: (a) => 1 / Math.tan(a),
  sec: (a) => 1 / Math.cos(a),
  csc: (a) => 1 / Math.sin(a),
  arcsin: Math.asin,
  arccos: Math.acos,
  arctan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  exp: Math.exp,
  ln: Math.log,
  log: Math.log10,
  lg: Math.log10,
  log_base: (base, a) => Math.log(a) / Math.log(base),
};

function product(from: number, to: number): number {
  let value = 1;
  for (let i = from; i <= to; i++) value *= i;
  return value;
}

/** Odd roots of negative numbers are real: (-8)^(1/3) = -2. */
function realPower(base: number, exponent: number): number {
  if (base >= 0 || Number.isInteger(exponent)) return base ** exponent;
  const inverse = Math.round(1 / exponent);
  const isOddRoot = Math.abs(1 / exponent - inverse) < 1e-12 && inverse % 2 !== 0;
  return isOddRoot ? -((-base) ** exponent) : NaN;
}

/** Whether a tree is a literal number, perhaps with a sign. */
export function isLiteral(node: Expression): boolean {
  return node.kind === "number" ||
    (node.kind === "call" && node.name === "negate" && isLiteral(node.of[0]!));
}

function hasDecimal(node: Expression): boolean {
  return node.kind === "number"
    ? node.isDecimal
    : node.kind === "call" && node.of.some((part) => hasDecimal(part));
}

const PROBES = 12;
const PROBES_DEFINED_MIN = 3;

/**
 * Whether two expressions are equal for all values of their variables, judged by random ones.
 * Constant expressions are compared to six decimals where one is written as a decimal number.
 */
export function areEqualExpressions(a: Expression, b: Expression): boolean {
  const names = [...variablesOf(b, variablesOf(a))].sort();
  if (names.length === 0) return areEqualConstants(a, b);
  const random = seededRandom(0x5eed);
  let defined = 0;
  for (let probe = 0; probe < PROBES; probe++) {
    const sign = probe % 3 === 2 ? -1 : 1;
    const values = new Map(names.map((name) => [name, sign * (0.2 + 3 * random())]));
    const [x, y] = [evaluate(a, values), evaluate(b, values)];
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      if (Number.isFinite(x) !== Number.isFinite(y) && sign > 0) return false;
      continue;
    }
    defined++;
    if (!isNear(x, y, 1e-9)) return false;
  }
  return defined >= PROBES_DEFINED_MIN;
}

function areEqualConstants(a: Expression, b: Expression): boolean {
  const none = new Map<string, number>();
  const [x, y] = [evaluate(a, none), evaluate(b, none)];
  if (Number.isNaN(x) || Number.isNaN(y)) return false;
  if (isLiteral(a) && isLiteral(b)) return x === y;
  if (hasDecimal(a) || hasDecimal(b)) return x === y || x.toFixed(6) === y.toFixed(6);
  return x === y || isNear(x, y, 1e-12);
}

function isNear(x: number, y: number, tolerance: number): boolean {
  return Math.abs(x - y) <= tolerance * Math.max(1, Math.abs(x), Math.abs(y));
}
