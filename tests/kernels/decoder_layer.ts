/** A small decoder layer as the model records it, to compare ways of executing the same ops. */
import { seededRandom } from "@/random.ts";
import { reshape, type Tensor } from "@/tensor/tensor.ts";
import type { Backend, KvCache, KvFormat, Matrix, MatrixFormat } from "@/kernels/backend.ts";

const [WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, INNER, PAGE_TOKENS] = [72, 4, 2, 32, 100, 16];
const QUERY_WIDTH = HEADS * HEAD_WIDTH;
const KEY_WIDTH = KV_HEADS * HEAD_WIDTH;
const EPSILON = 1e-6;

function floats(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}

export interface LayerOptions {
  readonly rows: number;
  readonly kv: KvFormat;
  /** All tensors in one storage, as in a workspace, or each in its own. */
  readonly together: boolean;
  /** Of the sequence, with the rows, which are its last. */
  readonly tokens: number;
}

export class DecoderLayer {
  readonly backend: Backend;
  readonly rows: number;
  readonly names: Record<string, Tensor> = {};
  readonly weights: Record<string, Matrix> = {};
  readonly cache: KvCache;
  readonly step: Record<"position" | "slot" | "rowSequence" | "rowLength" | "pageTable", Tensor>;
  readonly norms: Record<string, Tensor>;
  readonly table: Tensor;

  constructor(backend: Backend, options: LayerOptions) {
    const { rows, kv, together, tokens } = options;
    this.backend = backend;
    this.rows = rows;
    const widths = {
      ...{ hidden: WIDTH, normed: WIDTH, query: QUERY_WIDTH, key: KEY_WIDTH, value: KEY_WIDTH },
      ...{ attended: QUERY_WIDTH, out: WIDTH, normed2: WIDTH, gate: INNER, up: INNER, down: WIDTH },
    };
    const size = Object.values(widths).reduce((a, b) => a + b, 0) * rows;
    const base = together ? backend.allocate("f32", [size]) : undefined;
    let at = 0;
    for (const [name, width] of Object.entries(widths)) {
      const own = base && { ...base, shape: [rows, width], byteOffset: 4 * at };
      this.names[name] = own ?? backend.allocate("f32", [rows, width]);
      at += rows * width;
    }
    const pages = Math.ceil(tokens / PAGE_TOKENS);
    this.cache = backend.createKvCache({
      ...{ format: kv, layers: 1, pages, pageTokens: PAGE_TOKENS },
      ...{ kvHeads: KV_HEADS, headWidth: HEAD_WIDTH },
    });
    const first = tokens - rows;
    const counted = (from: number) => Array.from({ length: rows }, (_, i) => from + i);
    const integers = (values: number[], shape = [values.length]) => {
      const tensor = backend.allocate("i32", shape);
      backend.write(tensor, Int32Array.from(values));
      return tensor;
    };
    this.step = {
      position: integers(counted(first)),
      slot: integers(counted(first)),
      rowSequence: integers(counted(0).fill(0)),
      rowLength: integers(counted(first + 1)),
      pageTable: integers(Array.from({ length: pages }, (_, i) => i), [1, pages]),
    };
    const row = (width: number, seed: number) => this.#filled([width], seed);
    this.norms = {
      attention: row(WIDTH, 1),
      mlp: row(WIDTH, 2),
      query: row(HEAD_WIDTH, 3),
      key: row(HEAD_WIDTH, 4),
    };
    this.table = this.#filled([tokens, HEAD_WIDTH], 5);
  }

  #filled(shape: number[], seed: number): Tensor {
    const tensor = this.backend.allocate("f32", shape);
    this.backend.write(tensor, floats(shape.reduce((a, b) => a * b), seed));
    return tensor;
  }

  async pack(format: MatrixFormat): Promise<void> {
    const shapes = {
      ...{ query: [QUERY_WIDTH, WIDTH], key: [KEY_WIDTH, WIDTH], value: [KEY_WIDTH, WIDTH] },
      ...{ out: [WIDTH, QUERY_WIDTH], gate: [INNER, WIDTH], up: [INNER, WIDTH] },
      down: [WIDTH, INNER],
    };
    let seed = 10;
    for (const [name, [rows, columns]] of Object.entries(shapes)) {
      const weight = this.backend.createMatrix({ format, rows: rows!, columns: columns! });
      const bytes = new Uint8Array(floats(rows! * columns!, seed++).buffer as ArrayBuffer);
      await this.backend.packRows(weight, { firstRow: 0, rowCount: rows!, bytes, dtype: "F32" });
      this.weights[name] = weight;
    }
  }

  start(seed = 7): void {
    this.backend.write(this.names["hidden"]!, floats(this.rows * WIDTH, seed));
  }

  /** Records two layers with the same weights; `after` runs after every op. */
  async record(after: () => Promise<void>): Promise<void> {
    const { ops } = this.backend;
    const t = this.names as Record<string, Tensor>;
    const [hidden, normed, normed2] = [t["hidden"]!, t["normed"]!, t["normed2"]!];
    const [query, key, value] = [t["query"]!, t["key"]!, t["value"]!];
    const [attended, out, gate, up, down] = ["attended", "out", "gate", "up", "down"]
      .map((name) => t[name]!) as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const { step, table, cache, norms } = this;
    const multiply = (input: Tensor, name: string, out: Tensor) => () =>
      ops.matmul({ input, weight: this.weights[name]!, out });
    const norm = (input: Tensor, name: string, out: Tensor) => () =>
      ops.rmsNorm({ input, weight: norms[name]!, epsilon: EPSILON, out });
    const inHeads = (tensor: Tensor) =>
      reshape(tensor, [this.rows * tensor.shape[1]! / HEAD_WIDTH, HEAD_WIDTH]);
    const rope = (input: Tensor) => () =>
      ops.rope({ input, position: step.position, table, headWidth: HEAD_WIDTH, out: input });
    const { rowSequence, rowLength, pageTable } = step;
    const layer = [
      norm(hidden, "attention", normed),
      multiply(normed, "query", query),
      multiply(normed, "key", key),
      multiply(normed, "value", value),
      norm(inHeads(query), "query", inHeads(query)),
      rope(query),
      norm(inHeads(key), "key", inHeads(key)),
      rope(key),
      () => ops.writeKv({ cache, layer: 0, key, value, slot: step.slot }),
      () =>
        ops.attention({
          ...{ query, cache, layer: 0, rowSequence, rowLength, pageTable },
          ...{ heads: HEADS, scale: HEAD_WIDTH ** -0.5, out: attended },
        }),
      multiply(attended, "out", out),
      () => ops.add({ left: hidden, right: out, out: hidden }),
      norm(hidden, "mlp", normed2),
      multiply(normed2, "gate", gate),
      multiply(normed2, "up", up),
      () => ops.swiglu({ gate, up, out: gate }),
      multiply(gate, "down", down),
      () => ops.add({ left: hidden, right: down, out: hidden }),
    ];
    for (const op of [...layer, ...layer]) {
      op();
      await after();
    }
  }

  /** All that the layers wrote. */
  async results(): Promise<Record<string, number[]>> {
    const values: Record<string, number[]> = {};
    for (const [name, tensor] of Object.entries(this.names)) {
      const read = await this.backend.read(tensor);
      values[name] = [...new Int32Array(read.buffer, read.byteOffset, read.length)];
    }
    for (let page = 0; page < this.cache.pages; page++) {
      values[`page ${page}`] = [...await this.backend.readKvPage(this.cache, page)];
    }
    return values;
  }
}

/** Formats, row counts and lengths that take different kernels. */
export const layerCases: readonly (LayerOptions & { readonly format: MatrixFormat })[] = [
  ...(["f32", "bf16", "f16", "q8", "q4"] as const).map((format) => ({
    ...{ format, kv: "f16" as const, rows: 1, together: true, tokens: 20 },
  })),
  { format: "q4", kv: "q8", rows: 3, together: true, tokens: 20 },
  { format: "q8", kv: "f32", rows: 8, together: false, tokens: 20 },
  { format: "f16", kv: "f16", rows: 5, together: false, tokens: 20 },
  { format: "q4", kv: "f16", rows: 12, together: true, tokens: 40 },
  { format: "q8", kv: "f16", rows: 1, together: true, tokens: 600 },
];

/** Tensors that recording at once leaves with other bits than a flush after every op. */
export async function differencesOfLayer(
  backend: Backend,
  options: LayerOptions & { readonly format: MatrixFormat },
): Promise<string[]> {
  const layer = new DecoderLayer(backend, options);
  await layer.pack(options.format);
  layer.start();
  await layer.record(() => backend.flush());
  const expected = await layer.results();
  layer.start();
  await layer.record(() => Promise.resolve());
  const results = await layer.results();
  const { format, kv, rows, together, tokens } = options;
  const label = `${format} ${kv} ${rows} of ${tokens}${together ? "" : " apart"}`;
  return Object.keys(expected)
    .filter((name) => String(results[name]) !== String(expected[name]))
    .map((name) => `${label}: ${name}`);
}
