/** Experts as hash functions: cheap, and any wrong row, expert or layer changes the result. */
import { hashWords } from "@/random.ts";

export interface MockCall {
  readonly layer: number;
  /** What stands for each row's hidden state. */
  readonly rows: readonly number[];
  /** [rows][choices] experts, in the gate's order. */
  readonly choices: readonly (readonly number[])[];
}

/** One expert's output for one row. */
export interface PairValue {
  readonly row: number;
  readonly expert: number;
  readonly value: number;
}

export function expertValue(layer: number, expert: number, row: number): number {
  return Math.fround(hashWords(layer, expert, row) / 2 ** 31 - 1);
}

/** What a node answers for some of a call's experts. */
export function computeExperts(call: MockCall, experts: readonly number[]): PairValue[] {
  return call.rows.flatMap((hidden, row) =>
    call.choices[row]!.filter((expert) => experts.includes(expert))
      .map((expert) => ({ row, expert, value: expertValue(call.layer, expert, hidden) }))
  );
}

/** Sum per row in the gate's order, in float32: the order of arrival would change its bits. */
export function combine(call: MockCall, values: readonly PairValue[]): number[] {
  const byPair = new Map(values.map(({ row, expert, value }) => [`${row} ${expert}`, value]));
  return call.choices.map((experts, row) =>
    experts.reduce((sum, expert) => Math.fround(sum + (byPair.get(`${row} ${expert}`) ?? NaN)), 0)
  );
}
