/** Every backend against op outputs that PyTorch computed in float64. */
import assert from "node:assert/strict";
import fixture from "../fixtures/kernels/torch_ops.json" with { type: "json" };
import { optionalTest } from "../skip.ts";
import { backendEntries } from "./backends.ts";
import { Bench } from "./case.ts";

/** The fixture's numbers have nine decimals, and inputs are rounded to float32. */
const TOLERANCE = 2e-6;

interface Array2 {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

interface TorchCase {
  readonly op: string;
  readonly attributes: {
    readonly eps?: number;
    readonly heads?: number;
    readonly kv_heads?: number;
    readonly inv_freq?: readonly number[];
  };
  readonly inputs: readonly Array2[];
  readonly out: Array2;
}

/** [heads, tokens, width] to [tokens, heads, width], or back: it is its own kind of inverse. */
function swapOuterAxes(data: readonly number[], shape: readonly number[]): number[] {
  const [outer, inner, width] = shape.slice(-3) as [number, number, number];
  return Array.from({ length: data.length }, (_, i) => {
    const [place, w] = [Math.floor(i / width), i % width];
    return data[(place % outer * inner + Math.floor(place / outer)) * width + w]!;
  });
}

/** Runs one case and returns the output in the fixture's layout. */
type Runner = (bench: Bench, c: TorchCase) => Promise<ArrayLike<number>>;

const runners: Readonly<Record<string, Runner>> = {
  async linear(bench, { inputs, out }) {
    const [x, w, b] = inputs as [Array2, Array2, Array2];
    const [rows, columns] = w.shape as [number, number];
    const values = Float32Array.from(w.data);
    const result = bench.out("f32", out.shape);
    bench.backend.ops.matmul({
      input: bench.f32(x.data, x.shape),
      weight: await bench.matrix({ experts: 1, rows, columns, values }, "f32"),
      bias: bench.f32(b.data, b.shape),
      out: result,
    });
    return await bench.backend.read(result);
  },
  async rmsnorm(bench, { inputs, attributes, out }) {
    const [input, weight] = inputs.map(({ data, shape }) => bench.f32(data, shape));
    const result = bench.out("f32", out.shape);
    const epsilon = attributes.eps!;
    bench.backend.ops.rmsNorm({ input: input!, weight: weight!, epsilon, out: result });
    return await bench.backend.read(result);
  },
  async layernorm(bench, { inputs, attributes, out }) {
    const [input, weight, bias] = inputs.map(({ data, shape }) => bench.f32(data, shape));
    const result = bench.out("f32", out.shape);
    bench.backend.ops.layerNorm({
      input: input!,
      weight: weight!,
      bias: bias!,
      epsilon: attributes.eps!,
      out: result,
    });
    return await bench.backend.read(result);
  },
  async silu(bench, { inputs: [x], out }) {
    const result = bench.out("f32", out.shape);
    bench.backend.ops.swiglu({
      gate: bench.f32(x!.data, x!.shape),
      up: bench.f32(x!.data.map(() => 1), x!.shape),
      out: result,
    });
    return await bench.backend.read(result);
  },
  async swiglu(bench, { inputs, out }) {
    const [gate, up] = inputs.map(({ data, shape }) => bench.f32(data, shape));
    const result = bench.out("f32", out.shape);
    bench.backend.ops.swiglu({ gate: gate!, up: up!, out: result });
    return await bench.backend.read(result);
  },
  async gelu_erf(bench, { inputs: [x], out }) {
    const result = bench.out("f32", out.shape);
    bench.backend.ops.gelu({ input: bench.f32(x!.data, x!.shape), out: result });
    return await bench.backend.read(result);
  },
  async rope_half(bench, { inputs: [x], attributes, out }) {
    const [heads, tokens, headWidth] = x!.shape as [number, number, number];
    const positions = Array.from({ length: tokens }, (_, i) => i);
    const table = positions.flatMap((p) => [
      ...attributes.inv_freq!.map((f) => Math.cos(p * f)),
      ...attributes.inv_freq!.map((f) => Math.sin(p * f)),
    ]);
    const result = bench.out("f32", [tokens, heads * headWidth]);
    bench.backend.ops.rope({
      input: bench.f32(swapOuterAxes(x!.data, x!.shape), [tokens, heads * headWidth]),
      position: bench.i32(positions, [tokens]),
      table: bench.f32(table, [tokens, headWidth]),
      headWidth,
      out: result,
    });
    const rotated = Array.from(await bench.backend.read(result));
    return swapOuterAxes(rotated, [tokens, heads, out.shape.at(-1)!]);
  },
  async attention_causal_gqa(bench, { inputs, attributes }) {
    const [query, key, value] = inputs as [Array2, Array2, Array2];
    const [tokens, headWidth] = query.shape.slice(-2) as [number, number];
    const [heads, kvHeads] = [attributes.heads!, attributes.kv_heads!];
    const upload = ({ data, shape }: Array2) =>
      bench.f32(swapOuterAxes(data, shape), [tokens, shape.at(-3)! * headWidth]);
    const cache = bench.kvCache({
      format: "f32",
      layers: 1,
      pages: 3,
      pageTokens: 2,
      kvHeads,
      headWidth,
    });
    const slots = Array.from({ length: tokens }, (_, i) => i);
    bench.backend.ops.writeKv({
      cache,
      layer: 0,
      key: upload(key),
      value: upload(value),
      slot: bench.i32(slots, [tokens]),
    });
    const result = bench.out("f32", [tokens, heads * headWidth]);
    bench.backend.ops.attention({
      query: upload(query),
      cache,
      layer: 0,
      rowSequence: bench.i32(slots.map(() => 0), [tokens]),
      rowLength: bench.i32(slots.map((i) => i + 1), [tokens]),
      pageTable: bench.i32([0, 1, 2], [1, 3]),
      heads,
      scale: headWidth ** -0.5,
      out: result,
    });
    const out = Array.from(await bench.backend.read(result));
    return swapOuterAxes(out, [tokens, heads, headWidth]);
  },
};

for (const entry of backendEntries) {
  optionalTest(
    { name: `${entry.label} backend gives PyTorch's op outputs`, needs: entry.needs },
    async () => {
      const backend = await entry.open();
      const cases: readonly TorchCase[] = fixture.cases;
      assert.deepEqual(new Set(cases.map(({ op }) => op)), new Set(Object.keys(runners)));
      for (const torchCase of cases) {
        const bench = new Bench(backend);
        const actual = await runners[torchCase.op]!(bench, torchCase);
        const expected = torchCase.out.data;
        assert.equal(actual.length, expected.length);
        expected.forEach((want, i) => {
          const error = Math.abs(actual[i]! - want);
          assert.ok(
            error <= TOLERANCE * (1 + Math.abs(want)),
            `${torchCase.op}[${i}] is ${actual[i]}, PyTorch ${want}`,
          );
        });
        await bench.close();
      }
      await backend.close();
    },
  );
}
