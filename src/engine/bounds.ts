/** The engine's bounds as one value, so that tests and small machines can run with smaller ones. */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";

export interface EngineBounds {
  /** Token rows of one step. */
  readonly stepTokens: number;
  /** Time that a step should take at most; it decides how many rows and tiles a step gets. */
  readonly stepMs: number;
  /** Tiles encoded in one step. */
  readonly stepTiles: number;
  /** Prompt positions scored in one step. */
  readonly stepScores: number;
  /** Rows of logits in one step: scored prompt positions, draws and drafts. */
  readonly stepLogits: number;
  /** Tokens drafted for one sequence in one step. */
  readonly draftTokens: number;
  /** Attention work of one step's prompt chunks: rows times the tokens that each attends to. */
  readonly stepAttention: number;
  /** Sequences that hold KV pages at a time. */
  readonly runningSequences: number;
  /** Requests of which nothing runs, before new ones are refused. */
  readonly queueRequests: number;
  /** Pixels of all requests that wait or run, before new ones with pictures are refused. */
  readonly pendingPixelBytes: number;
  /** Steps without a row after which a running sequence is served first. */
  readonly starvedSteps: number;
  /** Wall time of one request, waiting included; Infinity = none. */
  readonly generationMs: number;
  /** Younger sequences that may start before a waiting one. */
  readonly overtakes: number;
  /** Unread events of one request before it is paused. */
  readonly unreadEvents: number;
  readonly pageTokens: number;
}

export const defaultEngineBounds: EngineBounds = {
  stepTokens: limits.stepTokensMax,
  stepMs: limits.stepMsTarget,
  stepTiles: limits.stepTilesMax,
  stepScores: limits.stepScoresMax,
  stepLogits: limits.stepLogitsMax,
  draftTokens: limits.draftTokensMax,
  stepAttention: limits.stepAttentionMax,
  runningSequences: limits.runningSequencesMax,
  queueRequests: limits.queueRequestsMax,
  pendingPixelBytes: limits.pendingPixelBytesMax,
  starvedSteps: limits.starvedStepsMax,
  generationMs: limits.generationMsMax,
  overtakes: limits.overtakesMax,
  unreadEvents: limits.unreadEventsMax,
  pageTokens: limits.kvPageTokens,
};

/** Bounds that can work: every running sequence fits a step, nothing is zero. */
export function checkBounds(bounds: EngineBounds): void {
  for (const [name, value] of Object.entries(bounds)) {
    assert(value >= 1, `engine bound ${name} is ${value}`);
  }
  assert(bounds.stepTokens >= bounds.runningSequences, "one row per running sequence");
  assert(bounds.stepLogits >= bounds.runningSequences + bounds.stepScores, "rows of logits");
}
