/** The rows that draw a sequence's next tokens, each with the rules and the number of its position. */
import { uniformAt } from "@/random.ts";
import { adjustmentsOf } from "@/sampling/adjustments.ts";
import type { SamplingRow } from "@/sampling/sampler.ts";
import type { GenerationRequest } from "./request.ts";
import type { Sequence } from "./sequence.ts";

/** Whether the rules of a request's draws can be told before the tokens in between are known. */
export function drawsAhead({ params }: GenerationRequest): boolean {
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = params;
  return repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
}

/** The rows of the draws after the next one, of a sequence that `drawsAhead`. */
export function rowsAhead(
  sequence: Sequence,
  options: { steps: number; endTokenIds: ReadonlySet<number> },
): SamplingRow[] {
  const { params } = sequence.state.request;
  const { history, generated } = sequence;
  const endTokenIds = [...options.endTokenIds, ...params.stopTokenIds];
  return Array.from({ length: options.steps }, (_, step) => {
    const answerTokens = generated.length + 1 + step;
    return {
      params,
      uniform: uniformAt(params.seed, sequence.choice, answerTokens),
      forcedId: undefined,
      adjustments: adjustmentsOf({ params, history, answerTokens, endTokenIds }),
      candidates: params.topLogprobs ?? 0,
    };
  });
}

/**
 * One row for the next token and one after each of `drafts`: row i draws as if the first i drafts
 * stood in the answer, so a draft that is accepted changes nothing about the draws that follow.
 */
export function drawingRows(
  sequence: Sequence,
  options: { drafts: readonly number[]; endTokenIds: ReadonlySet<number> },
): SamplingRow[] {
  const { params } = sequence.state.request;
  const { history, generated, choice } = sequence;
  const endTokenIds = [...options.endTokenIds, ...params.stopTokenIds];
  const rowAfter = (drafted: number): SamplingRow => {
    const answerTokens = generated.length + drafted;
    return {
      params,
      uniform: uniformAt(params.seed, choice, answerTokens),
      forcedId: undefined,
      adjustments: adjustmentsOf({ params, history, answerTokens, endTokenIds }),
      candidates: params.topLogprobs ?? 0,
    };
  };
  const rows = [rowAfter(0)];
  for (const [index, id] of options.drafts.entries()) {
    history.push(id);
    rows.push(rowAfter(index + 1));
  }
  for (const id of options.drafts) history.pop(id);
  return rows;
}
