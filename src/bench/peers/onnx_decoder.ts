/**
 * Writes a matrix product and a decoder step as ONNX graphs with random float32 weights. The step
 * takes a token id and gives the next one, over a context of fixed length whose keys and values are
 * constants; without rotary positions and norms of queries and keys, which favours the peer.
 */
import type { DecoderConfig } from "@/model/config.ts";
import { GraphWriter, INT64, type Pieces } from "./onnx.ts";

/** Input "x" f32 [rows, width], one output of the same shape. */
export function matmulGraph({ rows, width }: { rows: number; width: number }): Pieces {
  const graph = new GraphWriter();
  const out = graph.one("MatMul", ["x", graph.matrix("weight", width, width)]);
  return graph.model({
    inputs: [{ name: "x", dims: [rows, width] }],
    outputs: [{ name: out, dims: [rows, width] }],
  });
}

interface Shared {
  readonly norm: string;
  readonly queryShape: string;
  readonly keyShape: string;
  readonly joinedShape: string;
  readonly scale: string;
  readonly past: string;
}

/** Input "id" i64 [1, 1], one output i64 [1, 1]: the token of the largest logit. */
export function decoderGraph(config: DecoderConfig, contextTokens: number): Pieces {
  const { hiddenWidth: width, heads, kvHeads, headWidth } = config;
  const vocabulary = config.vocabularySize ?? 1;
  const graph = new GraphWriter();
  const shared: Shared = {
    norm: graph.floats("norm", [width], new Float32Array(width).fill(1)),
    queryShape: graph.numbers("queryShape", [1, kvHeads, heads / kvHeads, headWidth]),
    keyShape: graph.numbers("keyShape", [1, kvHeads, 1, headWidth]),
    joinedShape: graph.numbers("joinedShape", [1, 1, heads * headWidth]),
    scale: graph.floats("scale", [], Float32Array.of(headWidth ** -0.5)),
    past: graph.floats(
      "past",
      [1, kvHeads, contextTokens, headWidth],
      Float32Array.from({ length: kvHeads * contextTokens * headWidth }, (_, i) => Math.sin(i)),
    ),
  };
  let hidden = graph.one("Gather", [graph.matrix("embedding", vocabulary, width), "id"]);
  for (let layer = 0; layer < config.layers; layer++) {
    hidden = addLayer(graph, hidden, { layer, config, shared });
  }
  const normed = graph.one("LayerNormalization", [hidden, shared.norm], { axis: 2 });
  const logits = graph.one("MatMul", [normed, graph.matrix("head", width, vocabulary)]);
  const next = graph.one("ArgMax", [logits], { axis: 2, keepdims: 0 });
  return graph.model({
    inputs: [{ name: "id", dims: [1, 1], type: INT64 }],
    outputs: [{ name: next, dims: [1, 1], type: INT64 }],
  });
}

function addLayer(
  graph: GraphWriter,
  input: string,
  at: { layer: number; config: DecoderConfig; shared: Shared },
): string {
  const { layer, shared } = at;
  const { hiddenWidth, intermediateWidth, heads, kvHeads, headWidth } = at.config;
  const product = (from: string, name: string, [rows, columns]: [number, number]) =>
    graph.one("MatMul", [from, graph.matrix(`${name}${layer}`, rows, columns)]);
  const normed = graph.one("LayerNormalization", [input, shared.norm], { axis: 2 });
  const [queryWidth, kvWidth] = [heads * headWidth, kvHeads * headWidth];
  const query = graph.one("Reshape", [
    product(normed, "query", [hiddenWidth, queryWidth]),
    shared.queryShape,
  ]);
  const [keys, values] = ["key", "value"].map((name) => {
    const own = product(normed, name, [hiddenWidth, kvWidth]);
    const row = graph.one("Reshape", [own, shared.keyShape]);
    return graph.one("Concat", [shared.past, row], { axis: 2 });
  }) as [string, string];
  const columns = graph.one("Transpose", [keys], { perm: [0, 1, 3, 2] });
  const scores = graph.one("MatMul", [graph.one("Mul", [query, shared.scale]), columns]);
  const attended = graph.one("MatMul", [graph.one("Softmax", [scores], { axis: 3 }), values]);
  const merged = graph.one("Reshape", [attended, shared.joinedShape]);
  const output = product(merged, "output", [queryWidth, hiddenWidth]);
  const middle = graph.one("Add", [input, output]);
  const second = graph.one("LayerNormalization", [middle, shared.norm], { axis: 2 });
  const gate = product(second, "gate", [hiddenWidth, intermediateWidth]);
  const up = product(second, "up", [hiddenWidth, intermediateWidth]);
  const activated = graph.one("Mul", [gate, graph.one("Sigmoid", [gate])]);
  const inner = graph.one("Mul", [activated, up]);
  return graph.one("Add", [middle, product(inner, "down", [intermediateWidth, hiddenWidth])]);
}
