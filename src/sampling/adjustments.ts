/**
 * What the rules on single tokens (penalties, logit bias, minimum length) do to the logits of one
 * row, as lists for the `sample` op. The op applies them; nothing here sees logits.
 */
import { assert } from "@/assert.ts";
import type { SamplingParams } from "./params.ts";

/** Parallel lists: logit = penalised(logit, penalties[i]) + adds[i] at tokens[i]. Ids are distinct. */
export interface Adjustments {
  readonly tokens: readonly number[];
  /** Repetition penalty of the token; 1 = none. */
  readonly penalties: readonly number[];
  /** -Infinity forbids the token. */
  readonly adds: readonly number[];
}

export const noAdjustments: Adjustments = { tokens: [], penalties: [], adds: [] };

/** Which tokens one sequence has seen, kept up to date token by token. */
export class TokenHistory {
  /** Distinct ids of the prompt; shared by all choices of a request. */
  readonly promptTokens: ReadonlySet<number>;
  /** How often each id stands in the answer. */
  readonly answerCounts = new Map<number, number>();

  constructor(promptTokens: ReadonlySet<number>) {
    this.promptTokens = promptTokens;
  }

  push(id: number): void {
    this.answerCounts.set(id, (this.answerCounts.get(id) ?? 0) + 1);
  }

  /** Takes back a token that was pushed. */
  pop(id: number): void {
    const count = this.answerCounts.get(id) ?? 0;
    assert(count > 0, `token ${id} is taken back but was not pushed`);
    if (count > 1) this.answerCounts.set(id, count - 1);
    else this.answerCounts.delete(id);
  }
}

/** Whether `adjustmentsOf` needs to know the prompt's tokens. */
export function readsPrompt(params: SamplingParams): boolean {
  return params.repetitionPenalty !== 1;
}

/**
 * Adjustments for the next token. `endTokenIds` are forbidden until the answer has
 * `params.minTokens` tokens. Repetition penalty first, then logit bias minus presence and
 * frequency penalties, as OpenAI and the Hugging Face processors define them.
 */
export function adjustmentsOf(args: {
  params: SamplingParams;
  history: TokenHistory;
  answerTokens: number;
  endTokenIds: Iterable<number>;
}): Adjustments {
  const { params, history } = args;
  const rows = new Map<number, { penalty: number; add: number }>();
  const rowOf = (id: number) => {
    let row = rows.get(id);
    if (row === undefined) rows.set(id, row = { penalty: 1, add: 0 });
    return row;
  };
  if (params.repetitionPenalty !== 1) {
    for (const id of history.promptTokens) rowOf(id).penalty = params.repetitionPenalty;
    for (const id of history.answerCounts.keys()) rowOf(id).penalty = params.repetitionPenalty;
  }
  if (params.presencePenalty !== 0 || params.frequencyPenalty !== 0) {
    for (const [id, count] of history.answerCounts) {
      rowOf(id).add -= params.presencePenalty + params.frequencyPenalty * count;
    }
  }
  for (const [id, bias] of params.logitBias) rowOf(id).add += bias;
  if (args.answerTokens < params.minTokens) {
    for (const id of args.endTokenIds) rowOf(id).add = -Infinity;
  }
  if (rows.size === 0) return noAdjustments;
  return {
    tokens: [...rows.keys()],
    penalties: Array.from(rows.values(), (row) => row.penalty),
    adds: Array.from(rows.values(), (row) => row.add),
  };
}
