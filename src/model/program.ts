/** What every part of the model records into, and ops that only measure. */
import type { Ops } from "@/kernels/ops.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import type { Linear } from "./parameters.ts";
import type { Workspace } from "./workspace.ts";

/** Sees intermediate tensors while they are valid; it may record ops that copy them (parity). */
export type Tap = (name: string, tensor: Tensor) => void;

export interface Program {
  readonly ops: Ops;
  readonly workspace: Workspace;
  readonly tap: Tap | undefined;
}

/** Ops that compute nothing: recording against them measures the scratch memory of a program. */
export const measuringOps: Ops = new Proxy({} as Ops, { get: () => () => undefined });

/** input [R, K] -> new tensor [R, N]. */
export function project(program: Program, input: Tensor, linear: Linear): Tensor {
  const rows = input.shape[0]!;
  const out = program.workspace.tensor("f32", [rows, linear.weight.rows]);
  program.ops.matmul({
    input,
    weight: linear.weight,
    out,
    ...(linear.bias && { bias: linear.bias }),
  });
  return out;
}
