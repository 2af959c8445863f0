/** Reads fields of JSON objects that other nodes sent; every problem is a SyntaxError. */

export type Fields = Record<string, unknown>;

export function fieldProblem(field: string, value: unknown): SyntaxError {
  return new SyntaxError(`Cannot read ${field}: ${JSON.stringify(value)?.slice(0, 80)}`);
}

export function objectOf(value: unknown, field: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw fieldProblem(field, value);
}

export function stringIn(from: Fields, field: string): string {
  const value = from[field];
  if (typeof value !== "string") throw fieldProblem(field, value);
  return value;
}

/** A whole number >= 0. */
export function countIn(from: Fields, field: string): number {
  const value = from[field];
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw fieldProblem(field, value);
  return value as number;
}

/** A finite number > 0. */
export function positiveIn(from: Fields, field: string): number {
  const value = from[field];
  if (typeof value !== "number" || !(value > 0) || value === Infinity) {
    throw fieldProblem(field, value);
  }
  return value;
}
