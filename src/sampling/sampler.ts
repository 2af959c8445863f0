/**
 * Draws the tokens of one step: lays out the rows for the `sample` op, records it, reads ids,
 * log-probabilities and candidates back. Logits never reach JavaScript.
 */
import { assert } from "@/assert.ts";
import type { Backend } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import { rowsOf, type Tensor, widthOf } from "@/tensor/tensor.ts";
import type { Adjustments } from "./adjustments.ts";
import { GrowingTensor } from "./growing_tensor.ts";
import type { SamplingParams } from "./params.ts";

/** Columns of the op's `params` tensor. */
const PARAM_COLUMNS = 8;

/** One row of logits and what to do with it. */
export interface SamplingRow {
  readonly params: Pick<SamplingParams, "temperature" | "topK" | "topP" | "minP">;
  /** In [0, 1). */
  readonly uniform: number;
  /** This id counts as chosen; undefined = draw one. */
  readonly forcedId: number | undefined;
  readonly adjustments: Adjustments;
  /** Candidates wanted, at most `limits.candidatesMax`. */
  readonly candidates: number;
}

export interface SampledRow {
  /** -1 when no id was possible (all logits -Infinity or NaN). */
  readonly id: number;
  /** Of `id`, under the unmodified logits. */
  readonly logprob: number;
  /** Most likely first. */
  readonly candidates: readonly { readonly id: number; readonly logprob: number }[];
}

const INPUTS = {
  params: "f32",
  adjustStart: "i32",
  adjustToken: "i32",
  adjustPenalty: "f32",
  adjustAdd: "f32",
} as const;
const OUTPUTS = { id: "i32", logprob: "f32", candidateId: "i32", candidateLogprob: "f32" } as const;
const TENSORS = { ...INPUTS, ...OUTPUTS };
type TensorName = keyof typeof TENSORS;

export class Sampler {
  readonly #backend: Backend;
  readonly #mask: Tensor;
  readonly #tensors: Readonly<Record<TensorName, GrowingTensor>>;

  /** `mask` is the set of ids that may be drawn, see token_mask.ts. */
  constructor(backend: Backend, mask: Int32Array) {
    this.#backend = backend;
    this.#mask = backend.allocate("i32", [1, mask.length]);
    backend.write(this.#mask, mask);
    const entries = Object.entries(TENSORS)
      .map(([name, dtype]) => [name, new GrowingTensor(backend, dtype)]);
    this.#tensors = Object.fromEntries(entries);
  }

  /**
   * Records the draw of logits [R, V], which it destroys; the function it returns flushes and
   * reads the R results.
   */
  record(logits: Tensor, rows: readonly SamplingRow[]): () => Promise<SampledRow[]> {
    assert(rowsOf(logits) === rows.length, `logits [${logits.shape}] for ${rows.length} rows`);
    if (rows.length === 0) return () => Promise.resolve([]);
    const wanted = Math.max(...rows.map((row) => row.candidates));
    assert(wanted <= limits.candidatesMax, `${wanted} candidates of ${limits.candidatesMax}`);
    // At least one column, so that no backend meets an empty tensor here.
    const width = Math.max(1, Math.min(wanted, widthOf(logits)));
    const tensors = this.#tensors;
    const outputs = {
      id: tensors.id.view([rows.length]),
      logprob: tensors.logprob.view([rows.length]),
      candidateId: tensors.candidateId.view([rows.length, width]),
      candidateLogprob: tensors.candidateLogprob.view([rows.length, width]),
    };
    this.#backend.ops.sample({
      logits,
      params: tensors.params.write(paramRows(rows), [rows.length, PARAM_COLUMNS]),
      mask: this.#mask,
      ...this.#adjustmentTensors(rows),
      ...outputs,
    });
    return () => this.#read(outputs, rows);
  }

  /** The ids that the last recorded draw of `rows` rows gives: i32 [rows], for ops that follow. */
  drawnIds(rows: number): Tensor {
    return this.#tensors.id.view([rows]);
  }

  close(): void {
    this.#backend.free(this.#mask);
    for (const tensor of Object.values(this.#tensors)) tensor.close();
  }

  #adjustmentTensors(rows: readonly SamplingRow[]) {
    const start = new Int32Array(rows.length + 1);
    for (const [r, row] of rows.entries()) start[r + 1] = start[r]! + row.adjustments.tokens.length;
    const total = start[rows.length]!;
    const token = new Int32Array(total);
    const penalty = new Float32Array(total);
    const add = new Float32Array(total);
    for (const [r, { adjustments }] of rows.entries()) {
      token.set(adjustments.tokens, start[r]!);
      penalty.set(adjustments.penalties, start[r]!);
      add.set(adjustments.adds, start[r]!);
    }
    const tensors = this.#tensors;
    return {
      adjustStart: tensors.adjustStart.write(start),
      adjustToken: tensors.adjustToken.write(token),
      adjustPenalty: tensors.adjustPenalty.write(penalty),
      adjustAdd: tensors.adjustAdd.write(add),
    };
  }

  async #read(
    outputs: Readonly<Record<keyof typeof OUTPUTS, Tensor>>,
    rows: readonly SamplingRow[],
  ): Promise<SampledRow[]> {
    const wantsCandidates = rows.some((row) => row.candidates > 0);
    const none = new Int32Array(0);
    const optional = (tensor: Tensor) => wantsCandidates ? this.#backend.read(tensor) : none;
    // At once: a GPU takes long to answer, but answers many readers together.
    const [ids, logprobs, candidateIds, candidateLogprobs] = await Promise.all([
      this.#backend.read(outputs.id),
      this.#backend.read(outputs.logprob),
      optional(outputs.candidateId),
      optional(outputs.candidateLogprob),
    ]);
    const width = widthOf(outputs.candidateId);
    return rows.map((row, r) => ({
      id: ids[r]!,
      logprob: logprobs[r]!,
      candidates: Array.from({ length: Math.min(row.candidates, width) }, (_, c) => ({
        id: candidateIds[r * width + c]!,
        logprob: candidateLogprobs[r * width + c]!,
      })),
    }));
  }
}

/** Largest float32 below 1: a uniform number must not round up to 1. */
const UNIFORM_MAX = 1 - 2 ** -24;

/** The op's `params` rows, f32 [R, 8]; forced rows pass unmasked. */
function paramRows(rows: readonly SamplingRow[]): Float32Array {
  const values = new Float32Array(rows.length * PARAM_COLUMNS);
  for (const [r, { params, uniform, forcedId }] of rows.entries()) {
    const maskIndex = forcedId === undefined ? 0 : -1;
    const { temperature, topK, topP, minP } = params;
    const below1 = Math.min(uniform, UNIFORM_MAX);
    values.set(
      [temperature, topK, topP, minP, below1, forcedId ?? -1, maskIndex, 0],
      r * PARAM_COLUMNS,
    );
  }
  return values;
}
