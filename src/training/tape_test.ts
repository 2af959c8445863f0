/** Gradients of every op by differences, checkpointing, sharing of gradients, frozen parts. */
import assert from "node:assert/strict";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import type { Backend, KvCache, Matrix } from "@/kernels/backend.ts";
import { seededRandom } from "@/random.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { BufferPool } from "./buffer_pool.ts";
import { BatchTensors } from "./packed_forward.ts";
import { Parameter, ParameterSet } from "./parameter_set.ts";
import { readStore, writeStore } from "./parameter_values.ts";
import { Tape } from "./tape.ts";
import { scoreTokens } from "./tape_rules.ts";

const ROWS = 6;
const WIDTH = 8;
const VOCABULARY = 7;

/** Weights by name, and the tensors of one recording. */
class Rig {
  readonly tensors: BatchTensors;
  readonly #random = seededRandom(11);
  readonly #parameters = new Map<string, Parameter>();

  constructor(readonly backend: Backend) {
    this.tensors = new BatchTensors(backend);
  }

  async matrix(name: string, rows: number, columns: number, experts = 1): Promise<Matrix> {
    const held = this.#parameters.get(name);
    if (held?.store.kind === "matrix") return held.store.matrix;
    const matrix = this.backend.createMatrix({ format: "f32", rows, columns, experts });
    await this.#add(name, { kind: "matrix", matrix }, experts * rows * columns);
    return matrix;
  }

  async vector(name: string, size: number, shape: readonly number[] = [size]): Promise<Tensor> {
    const held = this.#parameters.get(name);
    if (held?.store.kind === "tensor") return held.store.tensor;
    const tensor = this.backend.allocate("f32", shape);
    await this.#add(name, { kind: "tensor", tensor }, size);
    return tensor;
  }

  i32(...values: number[]): Tensor {
    return this.tensors.i32(Int32Array.from(values));
  }

  get set(): ParameterSet {
    return new ParameterSet([...this.#parameters.values()]);
  }

  async #add(name: string, store: Parameter["store"], size: number): Promise<void> {
    await writeStore(
      this.backend,
      store,
      Float32Array.from({ length: size }, () => 2 * this.#random() - 1),
    );
    this.#parameters.set(name, new Parameter({ name, places: [] }, store));
  }
}

/** Part of a program: hidden [ROWS, WIDTH] -> a tensor of the same shape. */
type Layer = (rig: Rig, tape: Tape, hidden: Tensor) => Promise<Tensor>;

const epsilon = 1e-5;

const layers: Readonly<Record<string, Layer>> = {
  async matmul(rig, { ops, workspace }, input) {
    const out = workspace.tensor("f32", [ROWS, WIDTH]);
    const weight = await rig.matrix("decoder.w", WIDTH, WIDTH);
    ops.matmul({ input, weight, bias: await rig.vector("decoder.bias", WIDTH), out });
    return out;
  },
  async "rmsNorm in place and a residual sum"(rig, { ops, workspace }, hidden) {
    const weight = await rig.vector("decoder.norm", WIDTH);
    const normed = workspace.tensor("f32", [ROWS, WIDTH]);
    ops.rmsNorm({ input: hidden, weight, epsilon, out: normed });
    ops.rmsNorm({ input: normed, weight, epsilon, out: normed });
    ops.add({ left: hidden, right: normed, out: hidden });
    ops.add({ left: hidden, right: hidden, out: hidden });
    return hidden;
  },
  async layerNorm(rig, { ops }, hidden) {
    const weight = await rig.vector("decoder.norm", WIDTH);
    const bias = await rig.vector("decoder.bias", WIDTH);
    ops.layerNorm({ input: hidden, weight, bias, epsilon, out: hidden });
    return hidden;
  },
  async "gelu and a repeated sum"(rig, { ops }, hidden) {
    const right = await rig.vector("decoder.position", 3 * WIDTH, [3, WIDTH]);
    ops.add({ left: hidden, right, out: hidden });
    ops.gelu({ input: hidden, out: hidden });
    return hidden;
  },
  async swiglu(rig, { ops, workspace }, hidden) {
    const up = workspace.tensor("f32", [ROWS, WIDTH]);
    const weight = await rig.matrix("decoder.up", WIDTH, WIDTH);
    ops.matmul({ input: hidden, weight, out: up });
    ops.swiglu({ gate: hidden, up, out: up });
    return up;
  },
  rope(rig, { ops }, hidden) {
    const position = rig.i32(0, 1, 2, 0, 1, 2);
    const angles = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i + 1));
    const table = { ...rig.tensors.f32(angles), shape: [3, 4] };
    ops.rope({ input: hidden, position, table, headWidth: 4, out: hidden });
    return Promise.resolve(hidden);
  },
  "copyRows with repeated and replaced rows"(rig, { ops, workspace }, hidden) {
    const out = workspace.tensor("f32", [ROWS, WIDTH]);
    const sourceRow = rig.i32(5, 0, 0, 2, 3, 3);
    ops.copyRows({ source: hidden, sourceRow, out, width: WIDTH, rowCount: ROWS });
    const outRow = rig.i32(4, 1);
    ops.copyRows({ source: hidden, out, outRow, width: WIDTH, rowCount: 2 });
    return Promise.resolve(out);
  },
  async "grouped causal attention in two sequences"(rig, { ops, workspace }, hidden) {
    const tensor = (width: number) => workspace.tensor("f32", [ROWS, width]);
    const [query, key, value, out] = [tensor(WIDTH), tensor(4), tensor(4), tensor(WIDTH)];
    const weight = await rig.matrix("decoder.query", WIDTH, WIDTH);
    ops.matmul({ input: hidden, weight, out: query });
    ops.matmul({ input: hidden, weight: await rig.matrix("decoder.key", 4, WIDTH), out: key });
    ops.matmul({ input: hidden, weight: await rig.matrix("decoder.value", 4, WIDTH), out: value });
    const shape = { layers: 1, pages: 0, pageTokens: 1, kvHeads: 1, headWidth: 4 };
    const cache: KvCache = { format: "f32", ...shape, storage: { sizeBytes: 0 } };
    const slot = rig.i32();
    ops.writeKv({ cache, layer: 0, key, value, slot });
    const rowLength = rig.i32(1, 2, 1, 2, 3, 4);
    const rows = { rowSequence: slot, rowLength, pageTable: slot };
    ops.attention({ query, cache, layer: 0, ...rows, heads: 2, scale: 0.5, out });
    return out;
  },
  segmentAttention(_, { ops, workspace }, hidden) {
    const out = workspace.tensor("f32", [ROWS, WIDTH]);
    const operands = { query: hidden, key: hidden, value: hidden };
    ops.segmentAttention({
      ...operands,
      segmentRows: 3,
      heads: 2,
      scale: 0.5,
      rounded: false,
      out,
    });
    return Promise.resolve(out);
  },
  "experts, probabilities divided by their sum": (rig, tape, hidden) =>
    experts(rig, tape, hidden, true),
  "experts, probabilities as they are": (rig, tape, hidden) => experts(rig, tape, hidden, false),
};

async function experts(rig: Rig, tape: Tape, hidden: Tensor, normalize: boolean): Promise<Tensor> {
  const { ops, workspace } = tape;
  const [count, k, inner] = [3, 2, 4];
  const logits = workspace.tensor("f32", [ROWS, count]);
  ops.matmul({
    input: hidden,
    weight: await rig.matrix("decoder.gate", count, WIDTH),
    out: logits,
  });
  const expertIndex = workspace.tensor("i32", [ROWS, k]);
  const expertWeight = workspace.tensor("f32", [ROWS, k]);
  ops.gateTopK({ logits, k, normalize, expertIndex, expertWeight });
  const expertStart = workspace.tensor("i32", [count + 1]);
  const groupedPair = workspace.tensor("i32", [ROWS * k]);
  const pairPlace = workspace.tensor("i32", [ROWS * k]);
  ops.groupByExpert({ expertIndex, experts: count, expertStart, groupedPair, pairPlace });
  const grouping = { expertStart, groupedPair };
  const up = workspace.tensor("f32", [ROWS * k, inner]);
  const weight = await rig.matrix("decoder.expertUp", inner, WIDTH, count);
  ops.expertMatmul({ input: hidden, weight, ...grouping, choices: k, out: up });
  const down = workspace.tensor("f32", [ROWS * k, WIDTH]);
  const narrow = await rig.matrix("decoder.expertDown", WIDTH, inner, count);
  ops.expertMatmul({ input: up, weight: narrow, ...grouping, out: down });
  const out = workspace.tensor("f32", [ROWS, WIDTH]);
  ops.combineRows({ input: down, pairPlace, expertWeight, out });
  return out;
}

/** Records embedding, layer and head; returns the loss. */
async function run(
  rig: Rig,
  layer: Layer,
  options: { set: ParameterSet; pool: BufferPool; backward: boolean; checkpointing?: boolean },
): Promise<number> {
  const { backend } = rig;
  const head = await rig.matrix("decoder.head", VOCABULARY, WIDTH);
  const { set: parameters, pool, checkpointing = false } = options;
  const tape = new Tape({ backend, pool, parameters, head, checkpointing });
  const { ops, workspace } = tape;
  const hidden = workspace.tensor("f32", [ROWS, WIDTH]);
  const rowIndex = rig.i32(0, 1, 2, 3, 3, 4);
  ops.gatherRows({
    table: await rig.matrix("decoder.embedding", 5, WIDTH),
    rowIndex,
    out: hidden,
  });
  const mark = workspace.mark();
  const out = await layer(rig, tape, hidden);
  ops.add({ left: hidden, right: out, out: hidden });
  workspace.release(mark);
  const logits = workspace.tensor("f32", [ROWS, VOCABULARY]);
  ops.matmul({ input: hidden, weight: head, out: logits });
  const coefficients = Float32Array.from({ length: ROWS }, (_, i) => 0.3 * i - 1);
  const logprob = rig.tensors.f32(new Float32Array(ROWS));
  scoreTokens(
    tape,
    {
      logits,
      target: rig.i32(0, 1, 2, 3, 4, 5),
      coefficient: rig.tensors.f32(coefficients),
      logprob,
      entropy: rig.tensors.f32(new Float32Array(ROWS)),
    },
    { early: true },
  );
  if (options.backward) tape.backward();
  else tape.discard();
  const logprobs = await backend.read(logprob);
  rig.tensors.free();
  return coefficients.reduce((sum, coefficient, i) => sum + coefficient * logprobs[i]!, 0);
}

for (const [name, layer] of Object.entries(layers)) {
  Deno.test(`gradients of ${name} equal differences of the loss`, async () => {
    const backend = openReferenceBackend();
    const rig = new Rig(backend);
    const pool = new BufferPool(backend);
    await run(rig, layer, { set: rig.set, pool, backward: false });
    const { set } = rig;
    set.choose(backend, () => true);
    await run(rig, layer, { set, pool, backward: true });
    const random = seededRandom(5);
    for (const parameter of set.parameters) {
      const gradient = await readStore(backend, parameter.gradient!);
      const weights = await readStore(backend, parameter.store);
      const direction = weights.map(() => 2 * random() - 1);
      const at = async (step: number) => {
        const moved = weights.map((weight, i) => weight + step * direction[i]!);
        await writeStore(backend, parameter.store, moved);
        return await run(rig, layer, { set, pool, backward: false });
      };
      const step = 4e-3;
      const slope = (await at(step) - await at(-step)) / (2 * step);
      await writeStore(backend, parameter.store, weights);
      const expected = gradient.reduce((sum, value, i) => sum + value * direction[i]!, 0);
      const size = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
      assert.ok(size > 0, `${parameter.name} has a gradient`);
      const error = Math.abs(slope - expected);
      assert.ok(error <= 2e-3 * size + 1e-4, `${parameter.name}: ${slope}, expected ${expected}`);
    }
    await backend.close();
  });

  Deno.test(`checkpointing of ${name} changes no bit`, async () => {
    const backend = openReferenceBackend();
    const rig = new Rig(backend);
    await run(rig, layer, { set: rig.set, pool: new BufferPool(backend), backward: false });
    const { set } = rig;
    set.choose(backend, () => true);
    const results: Float32Array[][] = [];
    for (const checkpointing of [false, true]) {
      const pool = new BufferPool(backend);
      await run(rig, layer, { set, pool, backward: true, checkpointing });
      const gradients = set.parameters.map(({ gradient }) => readStore(backend, gradient!));
      results.push(await Promise.all(gradients));
      set.clear();
    }
    assert.deepEqual(results[1], results[0]);
    await backend.close();
  });
}

Deno.test("Tape gives frozen weights no gradient and passes it through them", async () => {
  const backend = openReferenceBackend();
  const rig = new Rig(backend);
  const pool = new BufferPool(backend);
  const layer = layers.matmul!;
  await run(rig, layer, { set: rig.set, pool, backward: false });
  const { set } = rig;
  const read = () =>
    Promise.all(set.trainable.map(({ gradient }) => readStore(backend, gradient!)));
  set.choose(backend, () => true);
  await run(rig, layer, { set, pool, backward: true });
  const embedding = set.parameters.findIndex(({ name }) => name === "decoder.embedding");
  const all = await read();
  set.choose(backend, ({ name }) => name === "decoder.embedding");
  set.clear();
  await run(rig, layer, { set, pool, backward: true });
  assert.deepEqual(await read(), [all[embedding]]);
  await backend.close();
});

Deno.test("Tape adds the gradients of several recordings", async () => {
  const backend = openReferenceBackend();
  const rig = new Rig(backend);
  const pool = new BufferPool(backend);
  const layer = layers.swiglu!;
  await run(rig, layer, { set: rig.set, pool, backward: false });
  const { set } = rig;
  set.choose(backend, () => true);
  await run(rig, layer, { set, pool, backward: true });
  const up = set.parameters.find(({ name }) => name === "decoder.up")!;
  const once = await readStore(backend, up.gradient!);
  await run(rig, layer, { set, pool, backward: true });
  const twice = await readStore(backend, up.gradient!);
  twice.forEach((value, i) => assert.ok(Math.abs(value - 2 * once[i]!) < 1e-6));
  await backend.close();
});

Deno.test("a low-rank addition learns while its weight is frozen", async () => {
  const backend = openReferenceBackend();
  const rig = new Rig(backend);
  const pool = new BufferPool(backend);
  const layer = layers.matmul!;
  await run(rig, layer, { set: rig.set, pool, backward: false });
  const down = await rig.matrix("decoder.down", 2, WIDTH);
  const up = await rig.matrix("decoder.lowUp", WIDTH, 2);
  const { set } = rig;
  set.attachLowRank(await rig.matrix("decoder.w", WIDTH, WIDTH), { down, up, scale: 0.5 });
  set.choose(backend, ({ name }) => name === "decoder.down" || name === "decoder.lowUp");
  await run(rig, layer, { set, pool, backward: true });
  for (const parameter of set.trainable) {
    const gradient = await readStore(backend, parameter.gradient!);
    const weights = await readStore(backend, parameter.store);
    const at = async (step: number) => {
      await writeStore(backend, parameter.store, weights.map((w, i) => w + step * gradient[i]!));
      return await run(rig, layer, { set, pool, backward: false });
    };
    const slope = (await at(1e-3) - await at(-1e-3)) / 2e-3;
    const squares = gradient.reduce((sum, value) => sum + value * value, 0);
    assert.ok(squares > 0 && Math.abs(slope / squares - 1) < 1e-2, `${slope} and ${squares}`);
    await writeStore(backend, parameter.store, weights);
  }
  await backend.close();
});
