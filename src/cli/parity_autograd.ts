/**
 * Gradients of single ops against PyTorch's vector-Jacobian products. Inputs are rows of an
 * embedding, so that their gradients can be read like a weight's.
 */
import type { Backend, Matrix } from "@/kernels/backend.ts";
import { BufferPool } from "@/training/buffer_pool.ts";
import { BatchTensors } from "@/training/packed_forward.ts";
import { Parameter, ParameterSet } from "@/training/parameter_set.ts";
import { readStore, writeStore } from "@/training/parameter_values.ts";
import { Tape } from "@/training/tape.ts";
import type { Tensor } from "@/tensor/tensor.ts";
import { type Fixture, readJson } from "./parity_fixtures.ts";
import { ParityCheck, type ParityRow } from "./parity_report.ts";

interface Values {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

interface AutogradCase {
  readonly id: string;
  readonly fn: string;
  readonly input: {
    readonly inputs: readonly Values[];
    readonly grad_out: readonly number[];
    readonly attrs: Readonly<Record<string, unknown>>;
  };
  readonly expected: { readonly out: Values; readonly grads: readonly (readonly number[])[] };
}

/** Float32 arithmetic against float64 numbers with nine decimals. */
const TOLERANCE = 3e-6;

/** Checks one `autograd_ops.json`. */
export async function autogradParity(fixture: Fixture, backend: Backend): Promise<ParityRow[]> {
  const { cases } = await readJson<{ cases: readonly AutogradCase[] }>(fixture.path);
  const label = `${backend.name} ${backend.description.variant}`;
  const check = new ParityCheck(fixture.name, `${label}: gradients of ops`, TOLERANCE);
  const missing = new Set<string>();
  for (const goldenCase of cases) {
    const program = programs[goldenCase.fn];
    if (program === undefined) {
      missing.add(goldenCase.fn);
      continue;
    }
    const bench = new OpBench(backend, goldenCase);
    await bench.run(program, check);
    bench.close();
  }
  const row = check.row();
  const note = `no ops of the model: ${[...missing].join(", ")}`;
  return [missing.size > 0 && row.note === "" ? { ...row, note } : row];
}

/** Records a case and returns its output in the layout of the fixture. */
type OpProgram = (bench: OpBench, tape: Tape) => Promise<Tensor> | Tensor;

class OpBench {
  readonly goldenCase: AutogradCase;
  readonly tensors: BatchTensors;
  readonly #backend: Backend;
  readonly #parameters: Parameter[] = [];

  constructor(backend: Backend, goldenCase: AutogradCase) {
    this.#backend = backend;
    this.goldenCase = goldenCase;
    this.tensors = new BatchTensors(backend);
  }

  async run(program: OpProgram, check: ParityCheck): Promise<void> {
    const backend = this.#backend;
    const { id, fn, input, expected } = this.goldenCase;
    for (const [i, { shape, data }] of input.inputs.entries()) {
      const [rows, columns] = shape as [number, number];
      if (this.#isTransposed(i)) {
        const turned = swapped(rows, columns).map((at) => data[at]!);
        await this.#parameter(`decoder.${i}`, [columns, rows], turned);
      } else await this.#parameter(`decoder.${i}`, shape, data);
    }
    const set = new ParameterSet(this.#parameters);
    set.choose(backend, () => true);
    const pool = new BufferPool(backend);
    const tape = new Tape({ backend, pool, parameters: set });
    const out = await program(this, tape);
    const y = tape.read(out);
    y.value!.isSaved = true;
    const width = out.shape.reduce((a, b) => a * b, 1);
    const copy = this.tensors.f32(new Float32Array(width));
    const whole = { width, rowCount: 1 };
    backend.ops.copyRows({ source: tape.data(y), out: copy, ...whole });
    const source = this.tensors.f32(Float32Array.from(input.grad_out));
    tape.record({
      outs: [],
      saves: [y],
      isLoss: true,
      forward: () => {},
      backward: () => backend.ops.copyRows({ source, out: tape.target(y)!.tensor, ...whole }),
    });
    tape.backward();
    check.compare(`${id} ${fn}`, await backend.read(copy), expected.out.data);
    for (const [i, parameter] of this.#parameters.entries()) {
      const gradient = await readStore(backend, parameter.gradient!);
      const [rows, columns] = input.inputs[i]!.shape as [number, number];
      const grads = this.#isTransposed(i)
        ? swapped(rows, columns).map((at) => expected.grads[i]![at]!)
        : expected.grads[i]!;
      check.compare(`${id} ${fn} input ${i}`, gradient, grads);
    }
    pool.close();
  }

  /** Input `i` as a weight. */
  matrix(i: number): Matrix {
    const { store } = this.#parameters[i]!;
    if (store.kind !== "matrix") throw new TypeError(`input ${i} is a vector`);
    return store.matrix;
  }

  /** Input `i` as norm weight or bias. */
  vector(i: number): Tensor {
    const { store } = this.#parameters[i]!;
    if (store.kind !== "tensor") throw new TypeError(`input ${i} is a matrix`);
    return store.tensor;
  }

  /** Rows of input `i` as an activation, in the given order or as they are. */
  rows(tape: Tape, i: number, order?: readonly number[]): Tensor {
    const table = this.matrix(i);
    const index = order ?? Array.from({ length: table.rows }, (_, row) => row);
    const out = tape.workspace.tensor("f32", [index.length, table.columns]);
    const rowIndex = this.tensors.i32(Int32Array.from(index));
    tape.ops.gatherRows({ table, rowIndex, out });
    return out;
  }

  close(): void {
    this.tensors.free();
    for (const { store, gradient } of this.#parameters) {
      this.#backend.free(Parameter.floats(store));
      this.#backend.free(Parameter.floats(gradient!));
    }
  }

  /** A plain product's right factor: our weights have outputs as rows. */
  #isTransposed(i: number): boolean {
    return this.goldenCase.fn === "matmul" && i === 1;
  }

  /** Vectors of norms and biases are tensors; all else is rows over the last axis. */
  async #parameter(name: string, shape: readonly number[], data: readonly number[]): Promise<void> {
    const backend = this.#backend;
    const { fn, input: { inputs } } = this.goldenCase;
    const isVector = shape.length === 1 && inputs.length > 1;
    const isKernel = fn === "conv2d_patch" && name === "decoder.1";
    const columns = isKernel ? data.length / shape[0]! : shape.at(-1)!;
    const store: Parameter["store"] = isVector
      ? { kind: "tensor", tensor: backend.allocate("f32", shape) }
      : {
        kind: "matrix",
        matrix: backend.createMatrix({ format: "f32", rows: data.length / columns, columns }),
      };
    await writeStore(backend, store, Float32Array.from(data));
    this.#parameters.push(new Parameter({ name, places: [] }, store));
  }
}

const norm = (name: "rmsNorm" | "layerNorm"): OpProgram => (bench, tape) => {
  const hidden = bench.rows(tape, 0);
  const args = { input: hidden, weight: bench.vector(1), out: hidden };
  const epsilon = bench.goldenCase.input.attrs.eps as number;
  if (name === "rmsNorm") tape.ops.rmsNorm({ ...args, epsilon });
  else tape.ops.layerNorm({ ...args, bias: bench.vector(2), epsilon });
  return hidden;
};

/** Row indexes that bring [outer, inner] rows into the order [inner, outer]. */
const swapped = (outer: number, inner: number): number[] =>
  Array.from({ length: outer * inner }, (_, i) => (i % outer) * inner + Math.floor(i / outer));

/** Rows of `width` in another order, as a tensor of another shape. */
function reordered(
  bench: OpBench,
  tape: Tape,
  source: Tensor,
  options: { order: readonly number[]; width: number; shape: readonly number[] },
): Tensor {
  const { order, width, shape } = options;
  const out = tape.workspace.tensor("f32", shape);
  const sourceRow = bench.tensors.i32(Int32Array.from(order));
  tape.ops.copyRows({ source, sourceRow, out, width, rowCount: order.length });
  return out;
}

const programs: Readonly<Record<string, OpProgram>> = {
  matmul(bench, tape) {
    const weight = bench.matrix(1);
    const input = bench.rows(tape, 0);
    const out = tape.workspace.tensor("f32", [input.shape[0]!, weight.rows]);
    tape.ops.matmul({ input, weight, out });
    return out;
  },
  linear(bench, tape) {
    const weight = bench.matrix(1);
    const input = bench.rows(tape, 0);
    const out = tape.workspace.tensor("f32", [input.shape[0]!, weight.rows]);
    tape.ops.matmul({ input, weight, bias: bench.vector(2), out });
    return out;
  },
  conv2d_patch(bench, tape) {
    const [image, kernel] = bench.goldenCase.input.inputs as [Values, Values];
    const [, channels, height, width] = image.shape as [number, number, number, number];
    const [features, , size] = kernel.shape as [number, number, number];
    const order: number[] = [];
    for (let y = 0; y < height; y += size) {
      for (let x = 0; x < width; x += size) {
        for (let c = 0; c < channels; c++) {
          for (let dy = 0; dy < size; dy++) {
            for (let dx = 0; dx < size; dx++) order.push((c * height + y + dy) * width + x + dx);
          }
        }
      }
    }
    const patches = order.length / (channels * size * size);
    const input = reordered(bench, tape, bench.rows(tape, 0), {
      order,
      width: 1,
      shape: [patches, channels * size * size],
    });
    const product = tape.workspace.tensor("f32", [patches, features]);
    tape.ops.matmul({ input, weight: bench.matrix(1), bias: bench.vector(2), out: product });
    const shape = [features, patches];
    return reordered(bench, tape, product, { order: swapped(patches, features), width: 1, shape });
  },
  rmsnorm: norm("rmsNorm"),
  layernorm: norm("layerNorm"),
  silu(bench, tape) {
    const gate = bench.rows(tape, 0);
    const up = bench.tensors.f32(new Float32Array(gate.shape.reduce((a, b) => a * b, 1)).fill(1));
    tape.ops.swiglu({ gate, up, out: gate });
    return gate;
  },
  gelu_erf(bench, tape) {
    const hidden = bench.rows(tape, 0);
    tape.ops.gelu({ input: hidden, out: hidden });
    return hidden;
  },
  swiglu(bench, tape) {
    const [gate, up] = [bench.rows(tape, 0), bench.rows(tape, 1)];
    tape.ops.swiglu({ gate, up, out: gate });
    return gate;
  },
  embedding_sum: (bench, tape) =>
    bench.rows(tape, 0, bench.goldenCase.input.attrs.ids as readonly number[]),
  rope_half(bench, tape) {
    const frequencies = bench.goldenCase.input.attrs.inv_freq as readonly number[];
    const [, tokens, headWidth] = bench.goldenCase.input.inputs[0]!.shape as [
      number,
      number,
      number,
    ];
    const table = Float32Array.from({ length: tokens * headWidth }, (_, i) => {
      const [position, d] = [Math.floor(i / headWidth), i % headWidth];
      const angle = position * frequencies[d % frequencies.length]!;
      return d < frequencies.length ? Math.cos(angle) : Math.sin(angle);
    });
    const hidden = bench.rows(tape, 0);
    const position = bench.tensors.i32(
      Int32Array.from({ length: hidden.shape[0]! }, (_, row) => row % tokens),
    );
    const angles = { ...bench.tensors.f32(table), shape: [tokens, headWidth] };
    tape.ops.rope({ input: hidden, position, table: angles, headWidth, out: hidden });
    return hidden;
  },
  merge_2x2(bench, tape) {
    const [, height, width, channels] = bench.goldenCase.input.inputs[0]!.shape as number[];
    const order: number[] = [];
    for (let y = 0; y < height!; y += 2) {
      for (let x = 0; x < width!; x += 2) {
        for (const [dy, dx] of [[0, 0], [0, 1], [1, 0], [1, 1]] as const) {
          order.push((y + dy) * width! + x + dx);
        }
      }
    }
    const shape = [order.length / 4, 4 * channels!];
    return reordered(bench, tape, bench.rows(tape, 0), { order, width: channels!, shape });
  },
  attention_causal_gqa(bench, tape) {
    const { inputs, attrs } = bench.goldenCase.input;
    const [, heads, tokens, headWidth] = inputs[0]!.shape as [number, number, number, number];
    const kvHeads = attrs.kv_heads as number;
    const { ops, workspace } = tape;
    const place = (i: number, count: number) =>
      reordered(bench, tape, bench.rows(tape, i), {
        order: swapped(count, tokens),
        width: headWidth,
        shape: [tokens, count * headWidth],
      });
    const [query, key, value] = [place(0, heads), place(1, kvHeads), place(2, kvHeads)];
    const shape = { layers: 1, pages: 0, pageTokens: 1, kvHeads, headWidth };
    const cache = { format: "f32" as const, ...shape, storage: { sizeBytes: 0 } };
    const slot = bench.tensors.i32(new Int32Array(0));
    ops.writeKv({ cache, layer: 0, key, value, slot });
    const rowLength = bench.tensors.i32(Int32Array.from({ length: tokens }, (_, i) => i + 1));
    const attended = workspace.tensor("f32", [tokens, heads * headWidth]);
    const rows = { rowSequence: slot, rowLength, pageTable: slot };
    ops.attention({
      ...{ query, cache, layer: 0, ...rows, heads },
      scale: headWidth ** -0.5,
      out: attended,
    });
    const shapeOut = [heads * tokens, headWidth];
    const order = swapped(tokens, heads);
    return reordered(bench, tape, attended, { order, width: headWidth, shape: shapeOut });
  },
};
