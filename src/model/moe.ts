/** Sparse feed-forward layer: gate in float32, top-k choice, experts through the port. */
import type { Tensor } from "@/tensor/tensor.ts";
import type { MoeConfig } from "./config.ts";
import type { ExpertExecutor } from "./experts.ts";
import type { MoeParameters } from "./parameters.ts";
import { type Program, project } from "./program.ts";

/**
 * input [R, H] -> new tensor [R, H]. Qwen3-MoE: softmax over all experts, top-k, optional
 * renormalisation, no shared expert, no capacity limit.
 */
export async function sparseMlp(
  program: Program,
  call: { layer: number; input: Tensor; moe: MoeParameters; config: MoeConfig },
  experts: ExpertExecutor,
): Promise<Tensor> {
  const { ops, workspace } = program;
  const rows = call.input.shape[0]!;
  const k = call.config.expertsPerToken;
  const logits = project(program, call.input, { weight: call.moe.gate, bias: undefined }); // [R, E]
  program.tap?.(`gateLogits.${call.layer}`, logits);
  const expertIndex = workspace.tensor("i32", [rows, k]);
  const expertWeight = workspace.tensor("f32", [rows, k]);
  ops.gateTopK({ logits, k, normalize: call.config.normalizeTopK, expertIndex, expertWeight });
  const out = workspace.tensor("f32", [rows, call.input.shape[1]!]);
  const routing = { expertIndex, expertWeight };
  await experts.run(program, { layer: call.layer, hidden: call.input, routing, out });
  return out;
}
