/**
 * Writes a vision tower as an ONNX file with random float32 weights, for ONNX runtimes. Layers
 * share two sets of weights, so that the file stays small. Just enough of protobuf for that.
 */
import { seededRandom } from "@/random.ts";

export interface TowerShape {
  readonly hiddenWidth: number;
  readonly intermediateWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly patches: number;
  /** Values of one patch. */
  readonly patchWidth: number;
}

/** Pieces of a message; what is long is not copied until the file is written. */
export type Pieces = readonly Uint8Array[];

const sizeOf = (pieces: Pieces) => pieces.reduce((sum, piece) => sum + piece.length, 0);

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push(rest % 128 + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

/** Field of an integer. */
const integer = (field: number, value: number): Pieces => [varint(field * 8), varint(value)];

/** Field of bytes, text or a message. */
function block(field: number, content: string | Pieces): Pieces {
  const pieces = typeof content === "string" ? [new TextEncoder().encode(content)] : content;
  return [varint(field * 8 + 2), varint(sizeOf(pieces)), ...pieces];
}

const FLOAT = 1;
export const INT64 = 7;
const ATTRIBUTE_INTEGER = 2;
const ATTRIBUTE_INTEGERS = 7;

function tensor(name: string, dims: readonly number[], data: Float32Array | BigInt64Array): Pieces {
  const type = data instanceof Float32Array ? FLOAT : INT64;
  return [
    ...dims.flatMap((dim) => integer(1, dim)),
    ...integer(2, type),
    ...block(8, name),
    ...block(9, [new Uint8Array(data.buffer)]),
  ];
}

function attribute(name: string, value: number | readonly number[]): Pieces {
  return typeof value === "number"
    ? [...block(1, name), ...integer(3, value), ...integer(20, ATTRIBUTE_INTEGER)]
    : [
      ...block(1, name),
      ...value.flatMap((item) => integer(8, item)),
      ...integer(20, ATTRIBUTE_INTEGERS),
    ];
}

/** An input or output of a graph; float32 unless it says otherwise. */
export interface GraphValue {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type?: number;
}

function valueInfo({ name, dims, type = FLOAT }: GraphValue): Pieces {
  const shape = dims.flatMap((dim) => block(1, integer(1, dim)));
  const typed = block(1, [...integer(1, type), ...block(2, shape)]);
  return [...block(1, name), ...block(2, typed)];
}

/** Collects nodes and weights of one graph. */
export class GraphWriter {
  readonly nodes: Pieces[] = [];
  readonly weights: Pieces[] = [];
  readonly #random = seededRandom(1);
  #values = 0;

  /** Adds an operation and returns the names of its results. */
  add(
    operation: string,
    inputs: readonly string[],
    options: { outputs?: number; attributes?: Readonly<Record<string, number | number[]>> } = {},
  ): string[] {
    const { outputs = 1, attributes = {} } = options;
    const results = Array.from({ length: outputs }, () => `v${this.#values++}`);
    this.nodes.push([
      ...inputs.flatMap((name) => block(1, name)),
      ...results.flatMap((name) => block(2, name)),
      ...block(4, operation),
      ...Object.entries(attributes).flatMap(([name, value]) => block(5, attribute(name, value))),
    ]);
    return results;
  }

  one(
    operation: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, number | number[]>> = {},
  ): string {
    return this.add(operation, inputs, { attributes })[0]!;
  }

  matrix(name: string, rows: number, columns: number): string {
    const scale = Math.sqrt(12 / rows);
    const values = Float32Array.from(
      { length: rows * columns },
      () => (this.#random() - 0.5) * scale,
    );
    this.weights.push(tensor(name, [rows, columns], values));
    return name;
  }

  numbers(name: string, values: readonly number[]): string {
    const data = BigInt64Array.from(values, (value) => BigInt(value));
    this.weights.push(tensor(name, [values.length], data));
    return name;
  }

  /** The whole file. */
  model(values: { inputs: readonly GraphValue[]; outputs: readonly GraphValue[] }): Pieces {
    const content = [
      ...this.nodes.flatMap((node) => block(1, node)),
      ...block(2, "graph"),
      ...this.weights.flatMap((weight) => block(5, weight)),
      ...values.inputs.flatMap((value) => block(11, valueInfo(value))),
      ...values.outputs.flatMap((value) => block(12, valueInfo(value))),
    ];
    const operations = [...block(1, ""), ...integer(2, 21)];
    return [...integer(1, 10), ...block(7, content), ...block(8, operations)];
  }

  floats(name: string, dims: readonly number[], values: Float32Array): string {
    this.weights.push(tensor(name, dims, values));
    return name;
  }
}

interface LayerWeights {
  readonly qkv: string;
  readonly output: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

interface Shared {
  readonly norm: string;
  readonly splitShape: string;
  readonly joinedShape: string;
  readonly scale: string;
}

/** Pre-norm attention and SwiGLU, each with its residual. */
function addLayer(
  graph: GraphWriter,
  input: string,
  parts: { weights: LayerWeights; shared: Shared },
): string {
  const { weights, shared } = parts;
  const normed = graph.one("LayerNormalization", [input, shared.norm], { axis: 2 });
  const joined = graph.one("Reshape", [
    graph.one("MatMul", [normed, weights.qkv]),
    shared.splitShape,
  ]);
  const byHead = graph.one("Transpose", [joined], { perm: [2, 0, 3, 1, 4] });
  const [query, key, value] = graph.add("Split", [byHead], {
    outputs: 3,
    attributes: { axis: 0, num_outputs: 3 },
  }) as [string, string, string];
  const keyColumns = graph.one("Transpose", [key], { perm: [0, 1, 2, 4, 3] });
  const scores = graph.one("MatMul", [graph.one("Mul", [query, shared.scale]), keyColumns]);
  const attended = graph.one("MatMul", [graph.one("Softmax", [scores], { axis: 4 }), value]);
  const byToken = graph.one("Transpose", [attended], { perm: [0, 1, 3, 2, 4] });
  const merged = graph.one("Reshape", [byToken, shared.joinedShape]);
  const middle = graph.one("Add", [input, graph.one("MatMul", [merged, weights.output])]);
  const second = graph.one("LayerNormalization", [middle, shared.norm], { axis: 2 });
  const gate = graph.one("MatMul", [second, weights.gate]);
  const up = graph.one("MatMul", [second, weights.up]);
  const activated = graph.one("Mul", [gate, graph.one("Sigmoid", [gate])]);
  const inner = graph.one("Mul", [activated, up]);
  return graph.one("Add", [middle, graph.one("MatMul", [inner, weights.down])]);
}

/** Input "pixels" f32 [1, patches, patchWidth]; one output [1, patches, hiddenWidth]. */
export function towerGraph(shape: TowerShape): Pieces {
  const { hiddenWidth: width, intermediateWidth, heads, patches, patchWidth } = shape;
  const graph = new GraphWriter();
  const sets = [0, 1].map((set): LayerWeights => ({
    qkv: graph.matrix(`qkv${set}`, width, 3 * width),
    output: graph.matrix(`output${set}`, width, width),
    gate: graph.matrix(`gate${set}`, width, intermediateWidth),
    up: graph.matrix(`up${set}`, width, intermediateWidth),
    down: graph.matrix(`down${set}`, intermediateWidth, width),
  }));
  const headWidth = width / heads;
  const shared: Shared = {
    norm: graph.floats("norm", [width], new Float32Array(width).fill(1)),
    splitShape: graph.numbers("split", [1, patches, 3, heads, headWidth]),
    joinedShape: graph.numbers("joined", [1, patches, width]),
    scale: graph.floats("scale", [], Float32Array.of(headWidth ** -0.5)),
  };
  let hidden = graph.one("MatMul", ["pixels", graph.matrix("patch", patchWidth, width)]);
  for (let layer = 0; layer < shape.layers; layer++) {
    hidden = addLayer(graph, hidden, { weights: sets[layer % 2]!, shared });
  }
  return graph.model({
    inputs: [{ name: "pixels", dims: [1, patches, patchWidth] }],
    outputs: [{ name: hidden, dims: [1, patches, width] }],
  });
}

export async function writeTower(path: string, shape: TowerShape): Promise<void> {
  await writeModel(path, towerGraph(shape));
}

/** Writes the file under another name first, so that a file of that name is always whole. */
export async function writeModel(path: string, pieces: Pieces): Promise<void> {
  const partial = `${path}.partial`;
  using file = await Deno.open(partial, { write: true, create: true, truncate: true });
  for (const piece of pieces) {
    for (let done = 0; done < piece.length;) done += await file.write(piece.subarray(done));
  }
  await Deno.rename(partial, path);
}
