/** Cases of the row and element ops: copyRows, norms, rope, swiglu, gelu, add. */
import { type KernelCase, pickRows, UNIT } from "./case.ts";
import { Draw } from "./naive.ts";

/** Integral of exp(-t^2) by Simpson's rule: erf without any library's polynomial. */
function erf(x: number): number {
  const end = Math.min(Math.abs(x), 6.5);
  const steps = 2000;
  let sum = 1 + Math.exp(-end * end);
  for (let i = 1; i < steps; i++) {
    const t = end * i / steps;
    sum += (i % 2 ? 4 : 2) * Math.exp(-t * t);
  }
  return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum * end / (3 * steps);
}

const normShapes = [
  { rows: 0, width: 16 },
  { rows: 1, width: 1 },
  { rows: 1, width: 96 },
  { rows: 3, width: 7 },
  { rows: 9, width: 33 },
  { rows: 17, width: 128 },
  { rows: 2, width: 4100 },
  { rows: 3, width: 24, size: 1e15 },
  { rows: 3, width: 24, size: 1e-20 },
  { rows: 3, width: 64, size: 0 },
  { rows: 4, width: 64, size: 0.5, shift: 100 },
];

interface NormShape {
  readonly rows: number;
  readonly width: number;
  readonly size?: number;
  readonly shift?: number;
}

function normName(shape: NormShape): string {
  const { rows, width, size = 1, shift = 0 } = shape;
  return `[${rows}, ${width}] size ${size}${shift ? ` around ${shift}` : ""}`;
}

function normInput(draw: Draw, { rows, width, size = 1, shift = 0 }: NormShape): Float32Array {
  return draw.normals(rows * width, size).map((value) => value + shift);
}

function rmsNormCase(shape: NormShape, seed: number, inPlace: boolean): KernelCase {
  const { rows, width } = shape;
  const draw = new Draw(seed);
  const input = normInput(draw, shape);
  const weight = draw.normals(width).map((value) => value + 1);
  const epsilon = 1e-6;
  return {
    op: "rmsNorm",
    name: normName(shape) + (inPlace ? ", in place" : ""),
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const source = bench.f32(pickRows(input, width, picked), [rowCount, width]);
      const out = inPlace ? source : bench.out("f32", [rowCount, width]);
      bench.backend.ops.rmsNorm({
        input: source,
        weight: bench.f32(weight, [width]),
        epsilon,
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(rows * width);
      for (let r = 0; r < rows; r++) {
        const row = Array.from(input.subarray(r * width, (r + 1) * width));
        const mean = row.reduce((sum, x) => sum + x * x, 0) / width;
        row.forEach((x, i) => {
          values[r * width + i] = x / Math.sqrt(mean + epsilon) * weight[i]!;
        });
      }
      const factor = UNIT * (8 + 2 * Math.sqrt(width));
      return { out: { values, bound: values.map((value) => Math.abs(value) * factor + 1e-44) } };
    },
  };
}

function layerNormCase(shape: NormShape, seed: number, inPlace: boolean): KernelCase {
  const { rows, width } = shape;
  const draw = new Draw(seed);
  const input = normInput(draw, shape);
  const weight = draw.normals(width).map((value) => value + 1);
  const bias = draw.normals(width);
  const epsilon = 1e-6;
  return {
    op: "layerNorm",
    name: normName(shape) + (inPlace ? ", in place" : ""),
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const source = bench.f32(pickRows(input, width, picked), [rowCount, width]);
      const out = inPlace ? source : bench.out("f32", [rowCount, width]);
      bench.backend.ops.layerNorm({
        input: source,
        weight: bench.f32(weight, [width]),
        bias: bench.f32(bias, [width]),
        epsilon,
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(rows * width);
      const bound = new Float64Array(rows * width);
      const factor = UNIT * (8 + 2 * Math.sqrt(width));
      for (let r = 0; r < rows; r++) {
        const row = Array.from(input.subarray(r * width, (r + 1) * width));
        const mean = row.reduce((sum, x) => sum + x, 0) / width;
        const meanSize = row.reduce((sum, x) => sum + Math.abs(x), 0) / width;
        const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / width;
        const gain = 1 / Math.sqrt(variance + epsilon);
        // The error of the mean shifts the row; it also enters the deviation, hence the 1 + gain.
        const shiftError = factor * meanSize * gain;
        row.forEach((x, i) => {
          const normal = (x - mean) * gain;
          values[r * width + i] = normal * weight[i]! + bias[i]!;
          bound[r * width + i] = Math.abs(weight[i]!) *
              (factor * Math.abs(normal) + shiftError * (1 + Math.abs(normal) * shiftError)) +
            4 * UNIT * Math.abs(bias[i]!) + 1e-44;
        });
      }
      return { out: { values, bound } };
    },
  };
}

interface RopeShape {
  readonly rows: number;
  readonly heads: number;
  readonly headWidth: number;
}

function ropeCase(shape: RopeShape, seed: number, inPlace: boolean): KernelCase {
  const { rows, heads, headWidth } = shape;
  const width = heads * headWidth;
  const positions = 301;
  const draw = new Draw(seed);
  const input = draw.normals(rows * width);
  const position = draw.integers(rows, positions);
  const half = headWidth / 2;
  const table = Float32Array.from({ length: positions * headWidth }, (_, i) => {
    const d = i % headWidth;
    const angle = Math.floor(i / headWidth) * 10000 ** (-(d % half) / half);
    return d < half ? Math.cos(angle) : Math.sin(angle);
  });
  return {
    op: "rope",
    name: `[${rows}, ${heads} * ${headWidth}]${inPlace ? ", in place" : ""}`,
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const source = bench.f32(pickRows(input, width, picked), [rowCount, width]);
      const out = inPlace ? source : bench.out("f32", [rowCount, width]);
      bench.backend.ops.rope({
        input: source,
        position: bench.i32(pickRows(position, 1, picked), [rowCount]),
        table: bench.f32(table, [positions, headWidth]),
        headWidth,
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(rows * width);
      const bound = new Float64Array(rows * width);
      for (let i = 0; i < values.length; i++) {
        const d = i % headWidth;
        const angles = position[Math.floor(i / width)]! * headWidth + d % half;
        const partner = d < half ? -input[i + half]! : input[i - half]!;
        const terms = [input[i]! * table[angles]!, partner * table[angles + half]!] as const;
        values[i] = terms[0] + terms[1];
        bound[i] = 4 * UNIT * (Math.abs(terms[0]) + Math.abs(terms[1]));
      }
      return { out: { values, bound } };
    },
  };
}

/** Inputs that cover the saturated ends of an activation. */
function activationInput(draw: Draw, count: number): Float32Array {
  const special = [0, -0, 1e-30, -1e-30, 5, -5, 12, -12, 40, -40, 87, -87, 90, -90, 300, -300];
  return draw.normals(count, 3).map((value, i) => count > 20 && i < 16 ? special[i]! : value);
}

function geluCase(count: number, seed: number, inPlace: boolean): KernelCase {
  const input = activationInput(new Draw(seed), count);
  return {
    op: "gelu",
    name: `[${count}]${inPlace ? ", in place" : ""}`,
    rows: count,
    async run(bench, picked) {
      const rowCount = picked?.length ?? count;
      const source = bench.f32(pickRows(input, 1, picked), [rowCount, 1]);
      const out = inPlace ? source : bench.out("f32", [rowCount, 1]);
      bench.backend.ops.gelu({ input: source, out });
      return await bench.read({ out });
    },
    expected() {
      const values = Float64Array.from(input, (x) => x * 0.5 * (1 + erf(x * Math.SQRT1_2)));
      return { out: { values, bound: Float64Array.from(input, (x) => 8 * UNIT * Math.abs(x)) } };
    },
  };
}

function swigluCase(
  shape: { rows: number; width: number },
  seed: number,
  target: "out" | "gate" | "up",
): KernelCase {
  const { rows, width } = shape;
  const draw = new Draw(seed);
  const gate = activationInput(draw, rows * width);
  const up = draw.normals(rows * width, 2);
  return {
    op: "swiglu",
    name: `[${rows}, ${width}] into ${target}`,
    rows,
    async run(bench, picked) {
      const size = [picked?.length ?? rows, width];
      const tensors = {
        gate: bench.f32(pickRows(gate, width, picked), size),
        up: bench.f32(pickRows(up, width, picked), size),
        out: bench.out("f32", size),
      };
      const out = tensors[target];
      bench.backend.ops.swiglu({ ...tensors, out });
      return await bench.read({ out });
    },
    expected() {
      const values = Float64Array.from(gate, (g, i) => g * up[i]! / (1 + Math.exp(-g)));
      // Below the smallest normal number exp overflows or results are flushed: absolute slack.
      return { out: { values, bound: values.map((value) => 16 * UNIT * Math.abs(value) + 1e-35) } };
    },
  };
}

function addCase(
  sizes: { left: number; right: number },
  seed: number,
  inPlace: boolean,
): KernelCase {
  const draw = new Draw(seed);
  const left = draw.normals(sizes.left, 100);
  const right = draw.normals(sizes.right);
  return {
    op: "add",
    name: `[${sizes.left}] + [${sizes.right}]${inPlace ? ", in place" : ""}`,
    async run(bench) {
      const source = bench.f32(left, [sizes.left]);
      const out = inPlace ? source : bench.out("f32", [sizes.left]);
      bench.backend.ops.add({ left: source, right: bench.f32(right, [sizes.right]), out });
      return await bench.read({ out });
    },
    expected() {
      return { out: { values: left.map((value, i) => value + right[i % sizes.right]!) } };
    },
  };
}

interface CopyShape {
  readonly width: number;
  readonly rowCount: number;
  readonly sourceRows: number;
  readonly outRows: number;
  readonly useSourceRow: boolean;
  readonly useOutRow: boolean;
}

function copyCase(shape: CopyShape, seed: number): KernelCase {
  const { width, rowCount, sourceRows, outRows, useSourceRow, useOutRow } = shape;
  const draw = new Draw(seed);
  const source = draw.normals(sourceRows * width);
  const before = draw.normals(outRows * width);
  const sourceRow = draw.integers(rowCount, sourceRows);
  const outRow = Int32Array.from(draw.shuffled(outRows).slice(0, rowCount));
  return {
    op: "copyRows",
    name: `${rowCount} rows of ${width}${useSourceRow ? ", from index" : ""}` +
      (useOutRow ? ", to index" : ""),
    async run(bench) {
      const out = bench.f32(before, [outRows, width]);
      bench.backend.ops.copyRows({
        source: bench.f32(source, [sourceRows, width]),
        ...(useSourceRow ? { sourceRow: bench.i32(sourceRow, [rowCount]) } : {}),
        out,
        ...(useOutRow ? { outRow: bench.i32(outRow, [rowCount]) } : {}),
        width,
        rowCount,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = before.slice();
      for (let i = 0; i < rowCount; i++) {
        const from = (useSourceRow ? sourceRow[i]! : i) * width;
        const to = (useOutRow ? outRow[i]! : i) * width;
        for (let w = 0; w < width; w++) values[to + w] = source[from + w]!;
      }
      return { out: { values } };
    },
  };
}

const both = [false, true];
const sizes = { width: 7, rowCount: 5, sourceRows: 6, outRows: 9 };

export const elementwiseCases: readonly KernelCase[] = [
  ...normShapes.flatMap((shape, i) =>
    both.flatMap((inPlace) => [
      rmsNormCase(shape, 400 + i, inPlace),
      layerNormCase(shape, 420 + i, inPlace),
    ])
  ),
  ...[
    { rows: 0, heads: 2, headWidth: 8 },
    { rows: 1, heads: 1, headWidth: 2 },
    { rows: 5, heads: 3, headWidth: 6 },
    { rows: 17, heads: 4, headWidth: 24 },
    { rows: 9, heads: 2, headWidth: 128 },
  ].flatMap((shape, i) => both.map((inPlace) => ropeCase(shape, 440 + i, inPlace))),
  ...[0, 1, 3, 17, 64, 1003].flatMap((count, i) =>
    both.map((inPlace) => geluCase(count, 460 + i, inPlace))
  ),
  ...[
    { rows: 0, width: 8 },
    { rows: 1, width: 1 },
    { rows: 3, width: 33 },
    { rows: 9, width: 96 },
  ].flatMap((shape, i) =>
    (["out", "gate", "up"] as const).map((target) => swigluCase(shape, 480 + i, target))
  ),
  ...[
    { left: 0, right: 8 },
    { left: 1, right: 1 },
    { left: 60, right: 1 },
    { left: 65, right: 13 },
    { left: 96, right: 96 },
    { left: 1000, right: 250 },
  ].flatMap((shape, i) => both.map((inPlace) => addCase(shape, 500 + i, inPlace))),
  ...both.flatMap((useSourceRow) =>
    both.flatMap((useOutRow) => [
      copyCase({ ...sizes, useSourceRow, useOutRow }, 520),
      copyCase({ ...sizes, rowCount: 0, useSourceRow, useOutRow }, 521),
      copyCase(
        { width: 96, rowCount: 33, sourceRows: 40, outRows: 35, useSourceRow, useOutRow },
        522,
      ),
      copyCase({ width: 1, rowCount: 1, sourceRows: 3, outRows: 2, useSourceRow, useOutRow }, 523),
    ])
  ),
];
