/**
 * The op vocabulary of the WebGPU backend: every op checks its shapes and records one dispatch, or
 * a few. What they compute is in `shaders/`.
 */
import type { Ops } from "../ops.ts";
import { attentionOps } from "./attention_ops.ts";
import { expertOps } from "./expert_ops.ts";
import type { Machine } from "./machine.ts";
import { productOps } from "./product_ops.ts";
import { rowOps } from "./row_ops.ts";
import { samplingOps } from "./sampling_ops.ts";
import type { Tuning } from "./tuning.ts";
import { valueOps } from "./value_ops.ts";

/** All ops, recording into `machine` with the kernels that the options choose. */
export function recordingOps(
  machine: Machine,
  options: { tuning: Tuning; sharedAttention: boolean },
): Ops {
  const { tuning, sharedAttention: shared } = options;
  return {
    ...rowOps(machine),
    ...productOps(machine, tuning),
    ...valueOps(machine),
    ...attentionOps(machine, { shared }),
    ...expertOps(machine),
    ...samplingOps(machine),
  };
}
