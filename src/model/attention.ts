/** Grouped-query attention of the decoder over KV pages (Qwen3: q/k norm before rotary positions). */
import type { KvCache } from "@/kernels/backend.ts";
import { reshape, type Tensor } from "@/tensor/tensor.ts";
import type { DecoderConfig } from "./config.ts";
import type { DecoderLayer } from "./parameters.ts";
import { type Program, project } from "./program.ts";

/** Row metadata of one step on the backend; see `StepInput` for meaning. */
export interface StepTensors {
  readonly position: Tensor;
  readonly slot: Tensor;
  readonly rowSequence: Tensor;
  readonly rowLength: Tensor;
  readonly pageTable: Tensor;
  readonly ropeTable: Tensor;
}

/** input [R, H] (already normed) -> new tensor [R, H]. */
export function decoderAttention(
  program: Program,
  call: {
    index: number;
    input: Tensor;
    layer: DecoderLayer;
    config: DecoderConfig;
    cache: KvCache;
    step: StepTensors;
  },
): Tensor {
  const { ops, workspace } = program;
  const { config, layer, cache, step, index } = call;
  const { heads, kvHeads, headWidth, epsilon } = config;
  const rows = call.input.shape[0]!;
  const query = project(program, call.input, layer.query); // [R, heads * headWidth]
  const key = project(program, call.input, layer.key); // [R, kvHeads * headWidth]
  const value = project(program, call.input, layer.value);
  const normAndRotate = (tensor: Tensor, count: number, weight: Tensor): void => {
    const perHead = reshape(tensor, [rows * count, headWidth]);
    ops.rmsNorm({ input: perHead, weight, epsilon, out: perHead });
    const { position, ropeTable: table } = step;
    ops.rope({ input: tensor, position, table, headWidth, out: tensor });
  };
  normAndRotate(query, heads, layer.queryNorm);
  normAndRotate(key, kvHeads, layer.keyNorm);
  ops.writeKv({ cache, layer: index, key, value, slot: step.slot });
  const attended = workspace.tensor("f32", [rows, heads * headWidth]);
  const { rowSequence, rowLength, pageTable } = step;
  ops.attention({
    query,
    cache,
    layer: index,
    rowSequence,
    rowLength,
    pageTable,
    heads,
    scale: headWidth ** -0.5,
    out: attended,
  });
  return project(program, attended, layer.output);
}
