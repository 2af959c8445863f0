/** Cases of the routing ops: gateTopK, groupByExpert, combineRows. */
import { type KernelCase, pickRows, UNIT } from "./case.ts";
import { Draw } from "./naive.ts";
import { drawRouting } from "./product_cases.ts";

interface GateShape {
  readonly rows: number;
  readonly experts: number;
  readonly k: number;
  readonly normalize: boolean;
  readonly kind?: "normal" | "ties" | "peaked";
}

function gateInput(draw: Draw, { rows, experts, kind = "normal" }: GateShape): Float32Array {
  const values = draw.normals(rows * experts, kind === "peaked" ? 60 : 1);
  return kind === "ties" ? values.map((value) => Math.round(value)) : values;
}

function gateCase(shape: GateShape, seed: number): KernelCase {
  const { rows, experts, k, normalize, kind = "normal" } = shape;
  const logits = gateInput(new Draw(seed), shape);
  return {
    op: "gateTopK",
    name: `${k} of [${rows}, ${experts}]${normalize ? ", normalized" : ""}, ${kind}`,
    rows,
    async run(bench, picked) {
      const rowCount = picked?.length ?? rows;
      const expertIndex = bench.out("i32", [rowCount, k]);
      const expertWeight = bench.out("f32", [rowCount, k]);
      bench.backend.ops.gateTopK({
        logits: bench.f32(pickRows(logits, experts, picked), [rowCount, experts]),
        k,
        normalize,
        expertIndex,
        expertWeight,
      });
      return await bench.read({ expertIndex, expertWeight });
    },
    expected() {
      const indexes: number[] = [];
      const weights: number[] = [];
      const bounds: number[] = [];
      for (let r = 0; r < rows; r++) {
        const row = Array.from(logits.subarray(r * experts, (r + 1) * experts));
        const largest = Math.max(...row);
        const total = row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
        const left = new Map(row.entries());
        const chosen: number[] = [];
        while (chosen.length < k) {
          let best = -1;
          for (const [expert, logit] of left) if (best < 0 || logit > row[best]!) best = expert;
          left.delete(best);
          chosen.push(best);
        }
        const probabilities = chosen.map((expert) => Math.exp(row[expert]! - largest) / total);
        const divisor = normalize ? probabilities.reduce((sum, p) => sum + p, 0) : 1;
        const relative = UNIT * (24 + 2 * Math.sqrt(experts) + 4 * Math.max(...row.map(Math.abs)));
        indexes.push(...chosen);
        weights.push(...probabilities.map((p) => p / divisor));
        bounds.push(...probabilities.map((p) => relative * p / divisor + 1e-37));
      }
      return {
        expertIndex: { values: indexes },
        expertWeight: { values: weights, bound: Float64Array.from(bounds) },
      };
    },
  };
}

interface RoutingShape {
  readonly rows: number;
  readonly choices: number;
  readonly experts: number;
}

function groupCase(shape: RoutingShape, seed: number): KernelCase {
  const { rows, choices, experts } = shape;
  const { expertIndex, ...expected } = drawRouting(new Draw(seed), shape);
  const pairs = rows * choices;
  return {
    op: "groupByExpert",
    name: `[${rows}, ${choices}] over ${experts} experts`,
    async run(bench) {
      const tensors = {
        expertStart: bench.out("i32", [experts + 1]),
        groupedPair: bench.out("i32", [pairs]),
        pairPlace: bench.out("i32", [pairs]),
      };
      bench.backend.ops.groupByExpert({
        expertIndex: bench.i32(expertIndex, [rows, choices]),
        experts,
        ...tensors,
      });
      return await bench.read(tensors);
    },
    expected: () => ({
      expertStart: { values: expected.expertStart },
      groupedPair: { values: expected.groupedPair },
      pairPlace: { values: expertIndex.map((_, pair) => expected.groupedPair.indexOf(pair)) },
    }),
  };
}

function combineCase(shape: RoutingShape & { width: number }, seed: number): KernelCase {
  const { rows, choices, width } = shape;
  const draw = new Draw(seed);
  const { groupedPair } = drawRouting(draw, shape);
  const pairPlace = groupedPair.map((_, pair) => groupedPair.indexOf(pair));
  const input = draw.normals(rows * choices * width);
  const expertWeight = draw.normals(rows * choices).map(Math.abs);
  return {
    op: "combineRows",
    name: `[${rows} * ${choices}, ${width}]`,
    async run(bench) {
      const out = bench.out("f32", [rows, width]);
      bench.backend.ops.combineRows({
        input: bench.f32(input, [rows * choices, width]),
        pairPlace: bench.i32(pairPlace, [rows * choices]),
        expertWeight: bench.f32(expertWeight, [rows, choices]),
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const values = new Float64Array(rows * width);
      const bound = new Float64Array(rows * width);
      for (let place = 0; place < rows * choices * width; place++) {
        const pair = Math.floor(place / width);
        const to = Math.floor(pair / choices) * width + place % width;
        const term = expertWeight[pair]! * input[pairPlace[pair]! * width + place % width]!;
        values[to]! += term;
        bound[to]! += UNIT * (2 + choices) * Math.abs(term);
      }
      return { out: { values, bound } };
    },
  };
}

const routingShapes = [
  { rows: 0, choices: 2, experts: 4, width: 8 },
  { rows: 1, choices: 1, experts: 1, width: 1 },
  { rows: 1, choices: 3, experts: 3, width: 7 },
  { rows: 9, choices: 2, experts: 16, width: 33 },
  { rows: 33, choices: 4, experts: 6, width: 64 },
  { rows: 70, choices: 8, experts: 128, width: 20 },
];

export const expertCases: readonly KernelCase[] = [
  ...[
    { rows: 0, experts: 4, k: 2, normalize: true },
    { rows: 1, experts: 1, k: 1, normalize: true },
    { rows: 3, experts: 6, k: 2, normalize: false },
    { rows: 9, experts: 7, k: 7, normalize: true },
    { rows: 17, experts: 128, k: 8, normalize: true },
    { rows: 17, experts: 128, k: 8, normalize: false },
    { rows: 40, experts: 10, k: 3, normalize: true, kind: "ties" as const },
    { rows: 12, experts: 9, k: 4, normalize: false, kind: "ties" as const },
    { rows: 12, experts: 33, k: 4, normalize: true, kind: "peaked" as const },
  ].map((shape, i) => gateCase(shape, 700 + i)),
  ...routingShapes.map((shape, i) => groupCase(shape, 720 + i)),
  ...routingShapes.map((shape, i) => combineCase(shape, 740 + i)),
];
