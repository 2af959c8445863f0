/** Many answers at once through a rig's engine, with the time between their tokens. */
import assert from "node:assert/strict";
import { systemClock } from "@/clock.ts";
import { greedyParams } from "@/sampling/params.ts";
import type { FrontRig } from "./front_rig.ts";

export interface Streamed {
  readonly tokens: readonly number[];
  /** From each token to the next one, in milliseconds. */
  readonly pausesMs: readonly number[];
}

/** One greedy answer of exactly `tokens` tokens. Throws when it ends in an error. */
export async function stream(
  rig: FrontRig,
  request: { promptIds: readonly number[]; tokens: number },
): Promise<Streamed> {
  const generation = rig.serving.served.generator.submit({
    id: `stream-${request.promptIds[0]}`,
    promptIds: request.promptIds,
    tiles: [],
    params: { ...greedyParams, maxTokens: request.tokens, ignoreEos: true },
    choices: 1,
    promptLogprobs: false,
  }, {});
  const [tokens, atMs]: [number[], number[]] = [[], []];
  for await (const event of generation) {
    if (event.type !== "token") continue;
    tokens.push(event.id);
    atMs.push(systemClock.nowMs());
  }
  assert.equal(tokens.length, request.tokens);
  return { tokens, pausesMs: atMs.slice(1).map((ms, i) => ms - atMs[i]!) };
}

/** Prompts that share nothing, so that no cache answers for the experts. */
export function promptOf(number: number): number[] {
  return Array.from({ length: 6 + number % 5 }, (_, i) => 20 + (number * 37 + i * 11) % 200);
}

/** A share of the values, from below; `share` 1 is the largest. */
export function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(share * values.length) - 1] ?? 0;
}
