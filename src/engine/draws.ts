/** The rows that draw a sequence's next tokens, each with the rules and the number of its position. */
import { uniformAt } from "@/random.ts";
import { adjustmentsOf } from "@/sampling/adjustments.ts";
import type { SamplingRow } from "@/sampling/sampler.ts";
import type { Sequence } from "./sequence.ts";

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
