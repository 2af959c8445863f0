/** Comparison of outputs with expectations and with another backend's outputs. */
import { type Expectation, type Outputs, UNIT, type Values } from "./case.ts";

type Expected = Readonly<Record<string, Expectation>>;

/** Differences from the formulas, allowing the one final rounding: for the reference backend. */
export function differencesFromExact(actual: Outputs, expected: Expected): string[] {
  return differences(actual, expected, (name, i) => {
    const { values, bound } = expected[name]!;
    if (!bound) return { want: roundedLike(actual[name]!, values[i]!), slack: 0 };
    const want = values[i]!;
    // Half a unit in the last place, the smallest subnormal, and float64's own errors.
    return { want, slack: 1.001 * UNIT * Math.abs(want) + 1e-45 + 1e-6 * bound[i]! };
  });
}

/** Differences from the reference's outputs beyond what float32 arithmetic explains. */
export function differencesFromReference(
  actual: Outputs,
  reference: Outputs,
  expected: Expected,
): string[] {
  return differences(actual, expected, (name, i) => {
    const want = reference[name]![i]!;
    const bound = expected[name]!.bound;
    return { want, slack: bound ? bound[i]! + UNIT * Math.abs(want) : 0 };
  });
}

/** Names of the outputs whose bits differ. */
export function differencesInBits(actual: Outputs, other: Outputs): string[] {
  return Object.keys(other).filter((name) => {
    const [a, b] = [bytesOf(actual[name]!), bytesOf(other[name]!)];
    return a.length !== b.length || a.some((byte, i) => byte !== b[i]);
  });
}

function bytesOf(values: Values): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function roundedLike(actual: Values, value: number): number {
  return actual instanceof Float32Array ? Math.fround(value) : value;
}

function differences(
  actual: Outputs,
  expected: Expected,
  limitAt: (name: string, index: number) => { want: number; slack: number },
): string[] {
  const found: string[] = [];
  for (const [name, { values }] of Object.entries(expected)) {
    const got = actual[name]!;
    if (got.length !== values.length) {
      found.push(`${name}: ${got.length} of ${values.length} values`);
    }
    let wrong = 0;
    let first = "";
    for (let i = 0; i < values.length; i++) {
      const { want, slack } = limitAt(name, i);
      // Written so that NaN counts as wrong.
      if (got[i] === want || Math.abs(got[i]! - want) <= slack) continue;
      if (wrong++ === 0) first = `[${i}] is ${got[i]}, expected ${want} within ${slack}`;
    }
    if (wrong > 0) found.push(`${name}: ${wrong} of ${values.length} wrong, first ${first}`);
  }
  return found;
}
