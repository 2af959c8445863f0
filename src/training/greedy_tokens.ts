/**
 * The most likely token of each scored row, as greedy decoding would take it. The logits are held for
 * a few rows at a time. Composed of ops that serve.
 */
import type { Matrix } from "@/kernels/backend.ts";
import { sliceRows, type Tensor } from "@/tensor/tensor.ts";
import type { BatchTensors } from "./packed_forward.ts";
import type { Tape } from "./tape.ts";

export interface GreedyOutput {
  /** Out: i32 [R]. */
  readonly ids: Tensor;
  /** Holds what the op reads besides. */
  readonly tensors: BatchTensors;
  /** Most bytes of logits at a time. */
  readonly logitsBytesMax?: number;
}

const LOGITS_BYTES_MAX = 1 << 24;

/** The `sample` op's row: temperature 0, no top-k, top-p or min-p, nothing forced, no mask. */
const GREEDY_ROW = [0, 0, 1, 0, 0, -1, -1, 0];

/** Records the ids of all rows of `input` [R, K]; weight [V, K]. */
export function recordGreedy(
  tape: Tape,
  args: GreedyOutput & { input: Tensor; weight: Matrix },
): void {
  const { input, weight, ids, tensors, logitsBytesMax = LOGITS_BYTES_MAX } = args;
  const { ops } = tape.backend;
  const rows = ids.shape[0]!;
  if (rows === 0) return;
  const vocabulary = weight.rows;
  const block = Math.max(1, Math.min(rows, Math.floor(logitsBytesMax / (4 * vocabulary))));
  const nothing = { i32: tensors.i32(new Int32Array(1)), f32: tensors.f32(new Float32Array(1)) };
  const mask = tensors.i32(new Int32Array(Math.ceil(vocabulary / 32)));
  const params = tensors.f32(Float32Array.from(Array(block).fill(GREEDY_ROW).flat()));
  const adjustStart = tensors.i32(new Int32Array(block + 1));
  const logprob = tensors.f32(new Float32Array(block));
  const candidateId = tensors.i32(new Int32Array(block));
  const candidateLogprob = tensors.f32(new Float32Array(block));
  for (let first = 0; first < rows; first += block) {
    const count = Math.min(block, rows - first);
    tape.scratch([count, vocabulary], (logits) => {
      ops.matmul({ input: sliceRows(input, first, count), weight, out: logits });
      ops.sample({
        logits,
        params: { ...params, shape: [count, GREEDY_ROW.length] },
        mask: { ...mask, shape: [1, mask.shape[0]!] },
        adjustStart: { ...adjustStart, shape: [count + 1] },
        adjustToken: nothing.i32,
        adjustPenalty: nothing.f32,
        adjustAdd: nothing.f32,
        id: { ...sliceRows({ ...ids, shape: [rows, 1] }, first, count), shape: [count] },
        logprob: { ...logprob, shape: [count] },
        candidateId: { ...candidateId, shape: [count, 1] },
        candidateLogprob: { ...candidateLogprob, shape: [count, 1] },
      });
    });
  }
}
