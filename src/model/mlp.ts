/** The gated feed-forward layer shared by vision tower and decoder: down(silu(gate x) * up x). */
import type { Tensor } from "@/tensor/tensor.ts";
import type { GatedMlp } from "./parameters.ts";
import { type Program, project } from "./program.ts";

/** input [R, H] -> new tensor [R, H]. */
export function gatedMlp(program: Program, input: Tensor, mlp: GatedMlp): Tensor {
  const gate = project(program, input, mlp.gate); // [R, I]
  const up = project(program, input, mlp.up); // [R, I]
  program.ops.swiglu({ gate, up, out: gate });
  return project(program, gate, mlp.down);
}
