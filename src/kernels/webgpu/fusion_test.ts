import assert from "node:assert/strict";
import { seededRandom } from "@/random.ts";
import { reshape, type Tensor } from "@/tensor/tensor.ts";
import { optionalTest } from "../../../tests/skip.ts";
import type { Backend, KvCache, KvFormat, Matrix, MatrixFormat } from "../backend.ts";
import { openWebGpuBackend } from "./backend.ts";
import { adapterObstacle } from "./device.ts";

const webGpu = { tool: "webgpu", missing: await adapterObstacle(navigator.gpu) };
const [WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, INNER, PAGE_TOKENS] = [72, 4, 2, 32, 100, 16];
const QUERY_WIDTH = HEADS * HEAD_WIDTH;
const KEY_WIDTH = KV_HEADS * HEAD_WIDTH;
const EPSILON = 1e-6;

function floats(count: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}

/** A decoder layer on a backend: every tensor in one storage, as in a workspace, or each alone. */
class Layer {
  readonly backend: Backend;
  readonly rows: number;
  readonly names: Record<string, Tensor> = {};
  readonly weights: Record<string, Matrix> = {};
  readonly cache: KvCache;
  readonly step: Record<"position" | "slot" | "rowSequence" | "rowLength" | "pageTable", Tensor>;
  readonly norms: Record<string, Tensor>;
  readonly table: Tensor;

  constructor(
    backend: Backend,
    options: { rows: number; kv: KvFormat; together: boolean; tokens: number },
  ) {
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
  async results(): Promise<unknown[]> {
    const values: unknown[] = [];
    for (const [name, tensor] of Object.entries(this.names)) {
      const bits = await this.backend.read(tensor);
      values.push([name, new Int32Array(bits.buffer, bits.byteOffset, bits.length)]);
    }
    for (let page = 0; page < this.cache.pages; page++) {
      values.push(await this.backend.readKvPage(this.cache, page));
    }
    return values;
  }
}

/** Counts dispatches of all compute passes. */
class DispatchCount implements Disposable {
  count = 0;
  readonly #dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;

  constructor() {
    const counter = { dispatched: () => void this.count++ };
    const dispatch = this.#dispatch;
    GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...args) {
      counter.dispatched();
      return dispatch.apply(this, args);
    };
  }

  [Symbol.dispose](): void {
    GPUComputePassEncoder.prototype.dispatchWorkgroups = this.#dispatch;
  }
}

const whole = () => Promise.resolve();

optionalTest(
  { name: "ops() of decoder layers give the bits of single dispatches", needs: [webGpu] },
  async () => {
    const backend = await openWebGpuBackend();
    const cases = [
      ...(["f32", "bf16", "f16", "q8", "q4"] as const).map((format) => ({
        ...{ format, kv: "f16" as const, rows: 1, together: true, tokens: 20 },
      })),
      { format: "q4", kv: "q8", rows: 3, together: true, tokens: 20 },
      { format: "q8", kv: "f32", rows: 8, together: false, tokens: 20 },
      { format: "f16", kv: "f16", rows: 5, together: false, tokens: 20 },
      { format: "q4", kv: "f16", rows: 12, together: true, tokens: 40 },
      { format: "q8", kv: "f16", rows: 1, together: true, tokens: 600 },
    ] as const;
    for (const options of cases) {
      const layer = new Layer(backend, options);
      await layer.pack(options.format);
      layer.start();
      await layer.record(() => backend.flush());
      const expected = await layer.results();
      layer.start();
      await layer.record(whole);
      assert.deepEqual(await layer.results(), expected, JSON.stringify(options));
    }
    await backend.close();
  },
);

optionalTest(
  {
    name: "ops() of a quantised decoder layer take nine dispatches, alone twenty-five",
    needs: [webGpu],
  },
  async () => {
    const backend = await openWebGpuBackend();
    const layer = new Layer(backend, {
      ...{ format: "q4", kv: "f16", rows: 1, together: true, tokens: 20 } as const,
    });
    await layer.pack("q4");
    const count = async (after: () => Promise<void>) => {
      layer.start();
      using dispatches = new DispatchCount();
      await layer.record(after);
      await backend.flush();
      return dispatches.count;
    };
    assert.equal(await count(() => backend.flush()), 50);
    // The last sum has no norm behind it.
    assert.equal(await count(whole), 19);
    await backend.close();
  },
);

optionalTest(
  { name: "repeat() gives the bits of recording anew, and keeps to live buffers", needs: [webGpu] },
  async () => {
    const backend = await openWebGpuBackend();
    const layer = new Layer(backend, { kv: "f16", rows: 2, together: true, tokens: 20 });
    await layer.pack("q4");
    let recorded = 0;
    const run = async (seed: number, key: string) => {
      layer.start(seed);
      const value = await backend.repeat!({ owner: layer, key }, async () => {
        await layer.record(whole);
        return ++recorded;
      });
      return { value, results: await layer.results() };
    };
    const first = await run(7, "a");
    const other = await run(8, "b");
    assert.notDeepEqual(other.results, first.results);
    assert.deepEqual(await run(7, "a"), first);
    assert.deepEqual(await run(8, "b"), other);
    assert.equal(recorded, 2);
    // A buffer that goes takes the kept dispatches along, which might name it.
    backend.free(backend.allocate("f32", [64]));
    assert.deepEqual((await run(7, "a")).results, first.results);
    assert.equal(recorded, 3);
    for (let i = 0; i < 10; i++) await run(i, `many ${i}`);
    assert.equal(recorded, 13);
    assert.deepEqual((await run(7, "a")).results, first.results);
    assert.equal(recorded, 14);
    await backend.close();
  },
);
