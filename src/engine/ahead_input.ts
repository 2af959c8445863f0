/** Arrays of a step that computes what the step before it drew, see `PlannedAhead`. */
import type { StepInput } from "@/model/language_model.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Plan } from "./plan.ts";

/**
 * One row per chunk, `step` positions after the chunk's own. Rows without a slot are computed for
 * nothing: they store no keys and attend to what is there.
 */
export function aheadInput(
  plan: Plan,
  options: { step: number; pageTokens: number; tokenSource: Tensor },
): StepInput {
  const { step, pageTokens, tokenSource } = options;
  const { pages, slotEnds } = plan.ahead!;
  const { chunks } = plan;
  const columns = Math.max(...pages.map(({ length }) => length));
  const input = {
    tokenIds: new Int32Array(chunks.length),
    tokenSource,
    positions: new Int32Array(chunks.length),
    slots: new Int32Array(chunks.length),
    rowSequence: Int32Array.from(chunks.keys()),
    pageTable: new Int32Array(chunks.length * columns),
    sequences: chunks.length,
    splices: [],
    logitRows: Int32Array.from(chunks.keys()),
  };
  for (const [row, { start }] of chunks.entries()) {
    input.pageTable.set(pages[row]!, row * columns);
    const position = Math.min(start + step, slotEnds[row]! - 1);
    const page = pages[row]![Math.floor(position / pageTokens)]!;
    const hasSlot = start + step < slotEnds[row]!;
    input.positions[row] = position;
    input.slots[row] = hasSlot ? page * pageTokens + position % pageTokens : -1;
  }
  return input;
}
