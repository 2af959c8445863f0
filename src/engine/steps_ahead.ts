/**
 * Which plans may be followed by more steps before their results are known. On a device whose
 * answers take long to arrive, the token that a step draws feeds the next step there; what turns
 * out to lie behind an answer's end is dropped. No token depends on it: draws are numbered by
 * position, and only rules that need no later token are known in advance.
 */
import { drawsAhead, rowsAhead } from "./draws.ts";
import type { Plan, PlannedAhead, PlannedChunk } from "./plan.ts";
import type { Residency } from "./residency.ts";
import type { Sequence } from "./sequence.ts";

interface AheadOptions {
  /** Steps that may follow. */
  readonly steps: number;
  readonly contextTokens: number;
  readonly endTokenIds: ReadonlySet<number>;
}

/** Steps to follow a plan; undefined when somebody waits, or when one of its rows cannot go on. */
export function planAhead(
  plan: Plan,
  residency: Residency,
  options: AheadOptions,
): PlannedAhead | undefined {
  const { running, waiting } = residency;
  const isPure = plan.tiles.length === 0 && plan.chunks.every(drawsOne);
  if (options.steps <= 0 || !isPure || waiting.length > 0) return undefined;
  if (plan.chunks.length !== running.length) return undefined;
  const byId = new Map(running.map((sequence) => [sequence.id, sequence]));
  const sequences = plan.chunks.map(({ sequenceId }) => byId.get(sequenceId)!);
  if (!sequences.every(({ state }) => drawsAhead(state.request))) return undefined;
  const slots = sequences.map((sequence) =>
    residency.reserve(sequence, Math.min(options.steps, tokensLeft(sequence, options)))
  );
  const steps = Math.max(...slots);
  if (steps === 0) return undefined;
  const { endTokenIds } = options;
  const rows = sequences.map((sequence) => rowsAhead(sequence, { steps, endTokenIds }));
  return {
    steps,
    pages: sequences.map(({ pages }) => [...pages]),
    slotEnds: sequences.map(({ wanted }, index) => wanted + slots[index]!),
    sampling: Array.from({ length: steps }, (_, step) => rows.map((row) => row[step]!)),
  };
}

/** One known token, from which one is drawn. */
function drawsOne({ tokenIds, draws, scoreCount, draftCount }: PlannedChunk): boolean {
  return draws && tokenIds.length === 1 && scoreCount === 0 && draftCount === 0;
}

/** Tokens that may follow the one which the plan draws. */
function tokensLeft(sequence: Sequence, { contextTokens }: AheadOptions): number {
  const { maxTokens } = sequence.state.request.params;
  const byRequest = maxTokens - sequence.generated.length - 1;
  return Math.max(0, Math.min(byRequest, contextTokens - sequence.wanted - 1));
}
