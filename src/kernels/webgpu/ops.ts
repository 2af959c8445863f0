/**
 * The op vocabulary of the WebGPU backend: every op checks its shapes and records one dispatch, or
 * a few, or one with its neighbours. What they compute is in `shaders/`.
 */
import type { Ops } from "../ops.ts";
import { Activations } from "./activations.ts";
import { attentionOps } from "./attention_ops.ts";
import { expertOps } from "./expert_ops.ts";
import { Fusion } from "./fusion.ts";
import { JointOps } from "./joint_ops.ts";
import type { Machine } from "./machine.ts";
import { productOps } from "./product_ops.ts";
import { rowOps } from "./row_ops.ts";
import { samplingOps } from "./sampling_ops.ts";
import type { Tuning } from "./tuning.ts";
import { valueOps } from "./value_ops.ts";

/** All ops, recording into `machine` with the kernels that the options choose. */
export function openFusion(
  machine: Machine,
  options: { tuning: Tuning; sharedAttention: boolean },
): Fusion {
  const { tuning, sharedAttention: shared } = options;
  const activations = new Activations(machine);
  const single: Ops = {
    ...rowOps(machine),
    ...productOps(machine, tuning, activations),
    ...valueOps(machine),
    ...attentionOps(machine, { shared }),
    ...expertOps(machine),
    ...samplingOps(machine),
  };
  const joint = new JointOps(machine, { tuning, activations, sharedAttention: shared });
  return new Fusion({ single, joint, activations });
}
