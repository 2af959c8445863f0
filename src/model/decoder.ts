/** Qwen3 decoder, dense or sparse: residual stream in, logits of the wanted rows out. */
import type { KvCache } from "@/kernels/backend.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { decoderAttention, type StepTensors } from "./attention.ts";
import type { DecoderConfig } from "./config.ts";
import type { ExpertExecutor } from "./experts.ts";
import type { HostLayers } from "./host_layers.ts";
import { gatedMlp } from "./mlp.ts";
import { sparseMlp } from "./moe.ts";
import type { DecoderLayer, GatedMlp, Parameters } from "./parameters.ts";
import type { Program } from "./program.ts";

/** Everything one decoder pass needs besides the residual stream. */
export interface DecoderCall {
  readonly config: DecoderConfig;
  readonly parameters: Parameters["decoder"];
  readonly experts: ExpertExecutor;
  /** Computes some layers' dense feed-forward elsewhere. */
  readonly host?: HostLayers | undefined;
  readonly cache: KvCache;
  readonly step: StepTensors;
  /** i32 [K] rows whose logits are wanted. */
  readonly logitRows: Tensor;
}

/** hidden [R, H], changed in place -> logits [K, V] (new tensor). */
export async function decode(program: Program, hidden: Tensor, call: DecoderCall): Promise<Tensor> {
  const { ops, workspace } = program;
  const { config, parameters } = call;
  program.tap?.("hidden.0", hidden);
  for (let i = 0; i < parameters.layers.length; i++) {
    await decoderLayer(program, hidden, { ...call, layer: parameters.layers[i]!, index: i });
    program.tap?.(`hidden.${i + 1}`, hidden);
  }
  const rowCount = call.logitRows.shape[0]!;
  const last = workspace.tensor("f32", [rowCount, config.hiddenWidth]);
  const width = config.hiddenWidth;
  ops.copyRows({ source: hidden, sourceRow: call.logitRows, out: last, width, rowCount });
  ops.rmsNorm({ input: last, weight: parameters.norm, epsilon: config.epsilon, out: last });
  program.tap?.("finalNorm", last);
  const logits = workspace.tensor("f32", [rowCount, parameters.head.rows]);
  ops.matmul({ input: last, weight: parameters.head, out: logits });
  program.tap?.("logits", logits);
  return logits;
}

async function decoderLayer(
  program: Program,
  hidden: Tensor,
  call: DecoderCall & { layer: DecoderLayer; index: number },
): Promise<void> {
  const { ops, workspace } = program;
  const { layer, index, config } = call;
  const { epsilon } = config;
  const start = workspace.mark();
  const normed = workspace.tensor("f32", hidden.shape);
  ops.rmsNorm({ input: hidden, weight: layer.attentionNorm, epsilon, out: normed });
  const attended = decoderAttention(program, { ...call, input: normed });
  ops.add({ left: hidden, right: attended, out: hidden });
  workspace.release(start);
  const mlpNormed = workspace.tensor("f32", hidden.shape);
  ops.rmsNorm({ input: hidden, weight: layer.mlpNorm, epsilon, out: mlpNormed });
  const { feedForward } = layer;
  const out = feedForward.kind === "dense"
    ? await denseMlp(program, mlpNormed, { mlp: feedForward.mlp, index, host: call.host })
    : await sparseMlp(
      program,
      { layer: index, input: mlpNormed, moe: feedForward.moe, config: config.moe! },
      call.experts,
    );
  ops.add({ left: hidden, right: out, out: hidden });
  workspace.release(start);
}

async function denseMlp(
  program: Program,
  input: Tensor,
  at: { mlp: GatedMlp; index: number; host: HostLayers | undefined },
): Promise<Tensor> {
  const { mlp, index, host } = at;
  if (!host?.parts.denseLayers.has(index)) return gatedMlp(program, input, mlp);
  return await host.feedForward(program, input, mlp);
}
