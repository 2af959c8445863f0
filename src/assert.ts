/**
 * Assertions for programmer errors only. What the world does wrong (bad input, full disk) is an
 * `OperatingError` from `errors.ts`.
 */

/** Throws when `condition` is false: the caller broke a contract, so the step must not go on. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Assertion failed: ${message}`);
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never, context: string): never {
  throw new Error(`Unreachable: ${context}: ${String(value)}`);
}
