/** Cases of the ops that read weight matrices: gatherRows, matmul, expertMatmul. */
import type { MatrixFormat } from "@/kernels/backend.ts";
import { type FileFormat, type HostMatrix, type KernelCase, pickRows, UNIT } from "./case.ts";
import {
  Draw,
  groupsOf32,
  quantizeActivations,
  quantizeWeights,
  roundBf16,
  roundF16,
} from "./naive.ts";

const formats: readonly MatrixFormat[] = ["f32", "bf16", "f16", "q8", "q4"];

/** What a file value becomes in a float format. */
const stored: Readonly<Record<"f32" | "bf16" | "f16", (value: number) => number>> = {
  f32: (value) => value,
  bf16: roundBf16,
  f16: roundF16,
};

/** What a file holds of a float32 value. */
const filed: Readonly<Record<FileFormat, (value: number) => number>> = {
  F32: (value) => value,
  BF16: roundBf16,
  F16: roundF16,
};

interface Dot {
  readonly value: number;
  /** Sum of absolute terms: what rounding errors scale with. */
  readonly magnitude: number;
  readonly terms: number;
}

/** Exact product of one input row and one weight row under the rules of the format. */
function dot(format: MatrixFormat, input: ArrayLike<number>, weight: ArrayLike<number>): Dot {
  if (format === "q8" || format === "q4") return quantizedDot(format, input, weight);
  let value = 0;
  let magnitude = 0;
  for (let k = 0; k < input.length; k++) {
    const term = input[k]! * stored[format](weight[k]!);
    value += term;
    magnitude += Math.abs(term);
  }
  return { value, magnitude, terms: input.length };
}

function quantizedDot(
  format: "q8" | "q4",
  input: ArrayLike<number>,
  weight: ArrayLike<number>,
): Dot {
  const weightGroups = groupsOf32(weight).map((group) => quantizeWeights(group, format));
  const inputGroups = groupsOf32(input).map(quantizeActivations);
  let value = 0;
  let magnitude = 0;
  weightGroups.forEach((w, g) => {
    const x = inputGroups[g]!;
    const integer = w.codes.reduce((sum, code, k) => sum + code * x.codes[k]!, 0);
    const term = integer * (w.scale * x.scale);
    value += term;
    magnitude += Math.abs(term);
  });
  return { value, magnitude, terms: weightGroups.length };
}

/** Rounding walk of a float32 sum in fixed order, with the products and the bias. */
function sumBound(terms: number, magnitude: number): number {
  return UNIT * (4 + 2 * Math.sqrt(terms)) * magnitude;
}

interface ProductShape {
  readonly rows: number;
  readonly k: number;
  readonly n: number;
  readonly bias?: boolean;
  readonly file?: FileFormat;
  readonly fill?: Fill;
}

type Fill = "normal" | "large" | "tiny" | "outlier" | "zero" | "saturated" | "halves";

/** Float32 inputs of a kind that stresses a rule. */
function filledValues(draw: Draw, count: number, fill: Fill): Float32Array {
  const values = draw.normals(count);
  if (fill === "large") return values.map((value) => value * 1e15);
  if (fill === "tiny") return values.map((value) => value * 1e-18);
  if (fill === "halves") return nearHalves(draw, values);
  if (fill === "zero") return values.fill(0);
  if (fill === "saturated") return values.map((value) => (value < 0 ? -3 : 3));
  if (fill === "outlier") return values.map((value, i) => (i % 37 === 5 ? value * 4096 : value));
  return values;
}

/** Groups of 32 whose codes are so close to k + 1/2 that every rounding step matters. */
function nearHalves(draw: Draw, values: Float32Array): Float32Array {
  return values.map((value, i) => {
    const largest = Math.abs(values[i - i % 32]!);
    return i % 32 === 0 ? value : largest * (draw.integer(250) - 124.5) / 127;
  });
}

const matmulShapes: readonly ProductShape[] = [
  { rows: 0, k: 32, n: 8 },
  { rows: 1, k: 1, n: 1 },
  { rows: 1, k: 31, n: 7, bias: true },
  { rows: 1, k: 32, n: 8 },
  { rows: 1, k: 33, n: 9, bias: true },
  { rows: 2, k: 64, n: 16, file: "BF16" },
  { rows: 3, k: 65, n: 15, bias: true, file: "F16" },
  { rows: 4, k: 96, n: 31 },
  { rows: 5, k: 40, n: 65, bias: true },
  { rows: 7, k: 128, n: 24, file: "BF16" },
  { rows: 8, k: 63, n: 64 },
  { rows: 9, k: 100, n: 33, bias: true },
  { rows: 17, k: 96, n: 129, file: "BF16" },
  { rows: 67, k: 70, n: 50, bias: true },
  { rows: 2, k: 5003, n: 12 },
  { rows: 5, k: 72, n: 10, fill: "large" },
  { rows: 5, k: 72, n: 10, fill: "tiny" },
  { rows: 5, k: 130, n: 10, bias: true, fill: "outlier" },
  { rows: 3, k: 48, n: 9, bias: true, fill: "zero" },
  { rows: 5, k: 256, n: 17, fill: "saturated" },
  { rows: 19, k: 96, n: 40, fill: "halves" },
  // More rows than one block of a quantised product.
  { rows: 131, k: 3900, n: 9 },
];

function matmulCase(format: MatrixFormat, shape: ProductShape, seed: number): KernelCase {
  const { rows, k, n, bias = false, file = "F32", fill = "normal" } = shape;
  const draw = new Draw(seed);
  const input = filledValues(draw, rows * k, fill);
  const fits = format === "f16" || file === "F16" ? "normal" : fill;
  const weight: HostMatrix = {
    experts: 1,
    rows: n,
    columns: k,
    values: filledValues(draw, n * k, fits),
  };
  const biasValues = filledValues(draw, n, fill === "zero" ? "normal" : fill);
  const options = `${format} from ${file}${bias ? ", bias" : ""}${
    fill === "normal" ? "" : `, ${fill}`
  }`;
  return {
    op: "matmul",
    name: `[${rows}, ${k}] x [${n}, ${k}] ${options}`,
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const out = bench.out("f32", [rowCount, n]);
      bench.backend.ops.matmul({
        input: bench.f32(pickRows(input, k, picked), [rowCount, k]),
        weight: await bench.matrix(weight, format, file),
        ...(bias ? { bias: bench.f32(biasValues, [n]) } : {}),
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(rows * n);
      const bound = new Float64Array(rows * n);
      const fileValues = weight.values.map(filed[file]);
      for (let place = 0; place < rows * n; place++) {
        const [row, column] = [Math.floor(place / n), place % n];
        const product = dot(
          format,
          input.subarray(row * k, (row + 1) * k),
          fileValues.subarray(column * k, (column + 1) * k),
        );
        const offset = bias ? biasValues[column]! : 0;
        values[place] = product.value + offset;
        bound[place] = sumBound(product.terms, product.magnitude + Math.abs(offset));
      }
      return { out: { values, bound } };
    },
  };
}

function gatherCase(
  format: MatrixFormat,
  shape: { rows: number; width: number; vocabulary: number },
  seed: number,
): KernelCase {
  const { rows, width, vocabulary } = shape;
  const draw = new Draw(seed);
  const table: HostMatrix = {
    experts: 1,
    rows: vocabulary,
    columns: width,
    values: draw.normals(vocabulary * width),
  };
  const index = draw.integers(rows, vocabulary);
  if (rows > 1) index.set([vocabulary - 1, 0]);
  return {
    op: "gatherRows",
    name: `${rows} of [${vocabulary}, ${width}] ${format}`,
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const out = bench.out("f32", [rowCount, width]);
      bench.backend.ops.gatherRows({
        table: await bench.matrix(table, format),
        rowIndex: bench.i32(pickRows(index, 1, picked), [rowCount]),
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = Array.from(index).flatMap((row) => {
        const source = Array.from(table.values.subarray(row * width, (row + 1) * width));
        if (format !== "q8" && format !== "q4") return source.map(stored[format]);
        return groupsOf32(source).map((group) => quantizeWeights(group, format))
          .flatMap(({ codes, scale }) => codes.map((code) => Math.fround(code * scale)));
      });
      return { out: { values } };
    },
  };
}

interface ExpertShape {
  readonly rows: number;
  readonly choices: number;
  readonly experts: number;
  readonly k: number;
  readonly n: number;
  /** Input rows are the sorted places themselves (the down projection). */
  readonly placed: boolean;
}

const expertShapes: readonly ExpertShape[] = [
  { rows: 0, choices: 2, experts: 3, k: 32, n: 8, placed: false },
  { rows: 1, choices: 1, experts: 1, k: 33, n: 9, placed: false },
  { rows: 1, choices: 2, experts: 6, k: 31, n: 7, placed: false },
  { rows: 5, choices: 2, experts: 8, k: 40, n: 24, placed: false },
  { rows: 13, choices: 2, experts: 4, k: 64, n: 15, placed: true },
  { rows: 19, choices: 3, experts: 5, k: 65, n: 17, placed: false },
  { rows: 33, choices: 2, experts: 3, k: 32, n: 16, placed: true },
];

/** Experts of each pair and the sorted order; the last expert stays empty when there are several. */
export function drawRouting(
  draw: Draw,
  shape: { rows: number; choices: number; experts: number },
): { expertIndex: Int32Array; expertStart: Int32Array; groupedPair: Int32Array } {
  const { rows, choices, experts } = shape;
  const used = experts > choices ? experts - 1 : experts;
  const expertIndex = Int32Array.from(
    Array.from({ length: rows }, () => draw.shuffled(used).slice(0, choices)).flat(),
  );
  const pairs = Array.from(expertIndex.keys())
    .sort((a, b) => expertIndex[a]! - expertIndex[b]! || a - b);
  const expertStart = Int32Array.from({ length: experts + 1 }, (_, expert) => {
    return expertIndex.filter((chosen) => chosen < expert).length;
  });
  return { expertIndex, expertStart, groupedPair: Int32Array.from(pairs) };
}

function expertCase(format: MatrixFormat, shape: ExpertShape, seed: number): KernelCase {
  const { rows, choices, experts, k, n, placed } = shape;
  const draw = new Draw(seed);
  const { expertStart, groupedPair, expertIndex } = drawRouting(draw, shape);
  const pairs = rows * choices;
  const inputRows = placed ? pairs : rows;
  const input = draw.normals(inputRows * k);
  const weight: HostMatrix = {
    experts,
    rows: n,
    columns: k,
    values: draw.normals(experts * n * k),
  };
  return {
    op: "expertMatmul",
    name: `[${inputRows}, ${k}] x [${experts}, ${n}, ${k}] ${format}, ${choices} choices` +
      (placed ? ", by place" : ""),
    async run(bench) {
      const out = bench.out("f32", [pairs, n]);
      bench.backend.ops.expertMatmul({
        input: bench.f32(input, [inputRows, k]),
        weight: await bench.matrix(weight, format),
        expertStart: bench.i32(expertStart, [experts + 1]),
        groupedPair: bench.i32(groupedPair, [pairs]),
        ...(placed ? {} : { choices }),
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(pairs * n);
      const bound = new Float64Array(pairs * n);
      groupedPair.forEach((pair, place) => {
        const row = placed ? place : Math.floor(pair / choices);
        for (let column = 0; column < n; column++) {
          const start = (expertIndex[pair]! * n + column) * k;
          const product = dot(
            format,
            input.subarray(row * k, (row + 1) * k),
            weight.values.subarray(start, start + k),
          );
          values[place * n + column] = product.value;
          bound[place * n + column] = sumBound(product.terms, product.magnitude);
        }
      });
      return { out: { values, bound } };
    },
  };
}

const gatherShapes = [
  { rows: 0, width: 32, vocabulary: 5 },
  { rows: 1, width: 1, vocabulary: 1 },
  { rows: 3, width: 33, vocabulary: 9 },
  { rows: 40, width: 96, vocabulary: 77 },
];

export const productCases: readonly KernelCase[] = formats.flatMap((format) => [
  ...matmulShapes.map((shape, i) => matmulCase(format, shape, 100 + i)),
  ...gatherShapes.map((shape, i) => gatherCase(format, shape, 200 + i)),
  ...expertShapes.map((shape, i) => expertCase(format, shape, 300 + i)),
]);
