/** Cases of writeKv with attention over pages, and of segmentAttention. */
import type { KvFormat } from "@/kernels/backend.ts";
import { type KernelCase, pickRows, UNIT } from "./case.ts";
import {
  Draw,
  groupsOf32,
  quantizeActivations,
  quantizeKeys,
  roundF16,
  throughCodes,
} from "./naive.ts";

/** What a stored head row reads back as. */
const readBack: Readonly<Record<KvFormat, (row: readonly number[]) => readonly number[]>> = {
  f32: (row) => row,
  f16: (row) => row.map(roundF16),
  q8: (row) => {
    const { codes, scale } = quantizeActivations(row);
    return codes.map((code) => code * scale);
  },
};

interface Attended {
  readonly values: readonly number[];
  readonly bound: readonly number[];
}

type HeadRows = readonly (readonly number[])[];

/** softmax(scale * q k^T). */
function sharesOf(query: readonly number[], keys: HeadRows, scale: number): number[] {
  const scores = keys.map((key) => scale * key.reduce((sum, k, d) => sum + k * query[d]!, 0));
  const largest = Math.max(...scores);
  const terms = scores.map((score) => Math.exp(score - largest));
  const total = terms.reduce((sum, term) => sum + term, 0);
  return terms.map((term) => term / total);
}

/** softmax(scale * q k^T) v for one head, with the error of float32 scores, exp and sums. */
function attend(
  query: readonly number[],
  keys: HeadRows,
  values: HeadRows,
  scale: number,
): Attended {
  if (keys.length === 0) return { values: query.map(() => 0), bound: query.map(() => 0) };
  const sizes = keys.map((key) =>
    scale * key.reduce((sum, k, d) => sum + Math.abs(k * query[d]!), 0)
  );
  const scoreError = UNIT * (6 + 2 * Math.sqrt(query.length)) * Math.max(...sizes);
  const shares = sharesOf(query, keys, scale);
  const relative = 2 * scoreError + UNIT * (16 + 4 * Math.sqrt(keys.length));
  const weighted = (d: number, of: (v: number) => number) =>
    shares.reduce((sum, share, i) => sum + share * of(values[i]![d]!), 0);
  return {
    values: query.map((_, d) => weighted(d, (v) => v)),
    bound: query.map((_, d) => relative * weighted(d, Math.abs) + 1e-42),
  };
}

interface PagedShape {
  readonly format: KvFormat;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly pageTokens: number;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** Query rows as [sequence, length]; missing: the last token of each sequence. */
  readonly rows?: readonly (readonly [number, number])[];
  readonly size?: number;
}

/** Keys and values of all sequences, spread over shuffled pages of layer 1 of 2. */
interface PagedData {
  readonly pages: number;
  readonly pageTable: Int32Array;
  readonly pagesPerSequence: number;
  readonly key: Float32Array;
  readonly value: Float32Array;
  readonly slot: Int32Array;
  /** First token row of each sequence in key and value. */
  readonly firstToken: readonly number[];
}

function drawPages(draw: Draw, shape: PagedShape): PagedData {
  const { pageTokens, lengths, kvHeads, headWidth, size = 1 } = shape;
  const pagesPerSequence = Math.max(1, ...lengths.map((n) => Math.ceil(n / pageTokens)));
  const pages = lengths.length * pagesPerSequence + 2;
  const order = draw.shuffled(pages);
  const pageTable = Int32Array.from(order.slice(0, lengths.length * pagesPerSequence));
  const slots = lengths.flatMap((length, sequence) =>
    Array.from({ length }, (_, token) => {
      const page = pageTable[sequence * pagesPerSequence + Math.floor(token / pageTokens)]!;
      return page * pageTokens + token % pageTokens;
    })
  );
  const width = kvHeads * headWidth;
  return {
    pages,
    pageTable,
    pagesPerSequence,
    key: draw.normals(slots.length * width, size),
    value: draw.normals(slots.length * width),
    slot: Int32Array.from(slots),
    firstToken: lengths.map((_, s) => lengths.slice(0, s).reduce((sum, n) => sum + n, 0)),
  };
}

function pagedCase(shape: PagedShape, seed: number): KernelCase {
  const { format, heads, kvHeads, headWidth, pageTokens, lengths, size = 1 } = shape;
  const draw = new Draw(seed);
  const data = drawPages(draw, shape);
  const rows = shape.rows ?? lengths.map((length, sequence) => [sequence, length] as const);
  const query = draw.normals(rows.length * heads * headWidth, size);
  const scale = headWidth ** -0.5;
  const kvWidth = kvHeads * headWidth;
  const kvShape = { format, layers: 2, pages: data.pages, pageTokens, kvHeads, headWidth };
  return {
    op: "attention",
    name: `${format} ${heads}/${kvHeads} heads of ${headWidth}, pages of ${pageTokens}, ` +
      `${rows.length} rows over [${lengths}]${size === 1 ? "" : `, size ${size}`}`,
    rows: rows.length,
    async run(bench, picked) {
      const cache = bench.kvCache(kvShape);
      const { ops } = bench.backend;
      const tokens = data.slot.length;
      // Rubbish first (all tokens in the other order), then the values, then rows to be skipped.
      for (const slot of [data.slot.toReversed(), data.slot, data.slot.map(() => -1)]) {
        const real = slot === data.slot;
        ops.writeKv({
          cache,
          layer: 1,
          key: bench.f32(real ? data.key : data.value, [tokens, kvWidth]),
          value: bench.f32(real ? data.value : data.key, [tokens, kvWidth]),
          slot: bench.i32(slot, [tokens]),
        });
      }
      const chosen = picked ? picked.map((row) => rows[row]!) : rows;
      const width = heads * headWidth;
      const out = bench.out("f32", [chosen.length, width]);
      ops.attention({
        query: bench.f32(pickRows(query, width, picked), [chosen.length, width]),
        cache,
        layer: 1,
        rowSequence: bench.i32(chosen.map(([sequence]) => sequence), [chosen.length]),
        rowLength: bench.i32(chosen.map(([, length]) => length), [chosen.length]),
        pageTable: bench.i32(data.pageTable, [lengths.length, data.pagesPerSequence]),
        heads,
        scale,
        out,
      });
      return await bench.read({ out });
    },
    expected: () => pagedExpectation(shape, { data, query, rows, scale }),
  };
}

function pagedExpectation(
  shape: PagedShape,
  inputs: {
    data: PagedData;
    query: Float32Array;
    rows: readonly (readonly [number, number])[];
    scale: number;
  },
): ReturnType<KernelCase["expected"]> {
  const { format, heads, kvHeads, headWidth } = shape;
  const { data, query, rows, scale } = inputs;
  const results = rows.flatMap(([sequence, length], r) =>
    Array.from({ length: heads }, (_, head) => {
      const kvHead = Math.floor(head * kvHeads / heads);
      const headRows = (source: Float32Array) =>
        Array.from({ length }, (_, token) => {
          const from = ((data.firstToken[sequence]! + token) * kvHeads + kvHead) * headWidth;
          return readBack[format](Array.from(source.subarray(from, from + headWidth)));
        });
      const from = (r * heads + head) * headWidth;
      const queryRow = Array.from(query.subarray(from, from + headWidth));
      return attend(queryRow, headRows(data.key), headRows(data.value), scale);
    })
  );
  return {
    out: {
      values: results.flatMap(({ values }) => values),
      bound: Float64Array.from(results.flatMap(({ bound }) => bound)),
    },
  };
}

interface SegmentShape {
  readonly segments: number;
  readonly segmentRows: number;
  readonly heads: number;
  readonly headWidth: number;
  readonly size?: number;
  readonly rounded?: boolean;
}

/** Half a step of each value when its group is rounded to `steps` either way. */
function halfSteps(values: readonly number[], steps: number): number[] {
  return groupsOf32(values).flatMap((group) => {
    const largest = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // A scale in bfloat16 may be 2^-8 away.
    return group.map(() => largest / steps / 2 * (1 + 2 ** -7));
  });
}

/** Keys and values of one head of a segment: whole, rounded, and half a step of each. */
class RoundedHead {
  readonly keys: HeadRows;
  readonly values: HeadRows;
  readonly keyErrors: HeadRows;
  readonly valueErrors: HeadRows;

  constructor(readonly wholeKeys: HeadRows, readonly wholeValues: HeadRows) {
    this.keys = wholeKeys.map((key) => throughCodes(key, quantizeKeys));
    this.keyErrors = wholeKeys.map((key) => halfSteps(key, 63));
    // Values share a scale along the tokens.
    const columns = transposed(wholeValues);
    this.values = transposed(columns.map((column) => throughCodes(column, quantizeKeys)));
    this.valueErrors = transposed(columns.map((column) => halfSteps(column, 63)));
  }
}

function transposed(rows: HeadRows): number[][] {
  return rows[0]!.map((_, i) => rows.map((row) => row[i]!));
}

/** softmax(scale * q k^T) v where all four are rounded. */
function attendRounded(query: readonly number[], head: RoundedHead, scale: number): number[] {
  const shares = sharesOf(throughCodes(query, quantizeActivations), head.keys, scale);
  const rounded = throughCodes(shares.map(Math.fround), quantizeActivations);
  return query.map((_, d) =>
    head.values.reduce((sum, value, i) => sum + rounded[i]! * value[d]!, 0)
  );
}

/** The most that rounding may move the results of `attend`, whichever parts are rounded. */
function roundingBound(query: readonly number[], head: RoundedHead, scale: number): number[] {
  const queryErrors = halfSteps(query, 127);
  const scoreErrors = head.wholeKeys.map((key, i) => {
    const terms = key.map((k, d) =>
      queryErrors[d]! * Math.abs(k) +
      head.keyErrors[i]![d]! * (Math.abs(query[d]!) + queryErrors[d]!)
    );
    return scale * terms.reduce((sum, term) => sum + term, 0);
  });
  const growth = Math.exp(2 * Math.max(...scoreErrors));
  const shares = sharesOf(query, head.wholeKeys, scale);
  const shareErrors = halfSteps(shares, 127).map((error, i) =>
    growth * error + shares[i]! * (growth - 1)
  );
  return query.map((_, d) =>
    head.wholeValues.reduce((sum, value, i) => {
      const error = shareErrors[i]!;
      return sum + error * Math.abs(value[d]!) + head.valueErrors[i]![d]! * (shares[i]! + error);
    }, 0)
  );
}

function segmentCase(shape: SegmentShape, seed: number): KernelCase {
  const { segments, segmentRows, heads, headWidth, size = 1, rounded = false } = shape;
  const draw = new Draw(seed);
  const width = heads * headWidth;
  const rows = segments * segmentRows;
  const [query, key, value] = [size, size, 1].map((s) => draw.normals(rows * width, s)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const scale = headWidth ** -0.5;
  return {
    op: "segmentAttention",
    name: `${segments} x ${segmentRows} rows, ${heads} heads of ${headWidth}` +
      (size === 1 ? "" : `, size ${size}`) + (rounded ? ", rounded" : ""),
    rows: segments,
    async run(bench, picked) {
      const rowCount = (picked?.length ?? segments) * segmentRows;
      const upload = (values: Float32Array) =>
        bench.f32(pickRows(values, segmentRows * width, picked), [rowCount, width]);
      const out = bench.out("f32", [rowCount, width]);
      bench.backend.ops.segmentAttention({
        query: upload(query),
        key: upload(key),
        value: upload(value),
        segmentRows,
        heads,
        scale,
        rounded,
        out,
      });
      return await bench.read({ out });
    },
    expected() {
      const roundedHeads = new Map<string, RoundedHead>();
      const results = Array.from({ length: rows * heads }, (_, place) => {
        const [row, head] = [Math.floor(place / heads), place % heads];
        const first = row - row % segmentRows;
        const headRow = (source: Float32Array, r: number) =>
          Array.from(source.subarray((r * heads + head) * headWidth).subarray(0, headWidth));
        const others = Array.from({ length: segmentRows }, (_, i) => first + i);
        const keys = others.map((r) => headRow(key, r));
        const values = others.map((r) => headRow(value, r));
        const whole = attend(headRow(query, row), keys, values, scale);
        if (!rounded) return whole;
        const roundedHead = roundedHeads.get(`${first} ${head}`) ?? new RoundedHead(keys, values);
        roundedHeads.set(`${first} ${head}`, roundedHead);
        // An executor may also take whole operands.
        const more = roundingBound(headRow(query, row), roundedHead, scale);
        return {
          values: attendRounded(headRow(query, row), roundedHead, scale),
          bound: whole.bound.map((error, d) => error + more[d]!),
        };
      });
      return {
        out: {
          values: results.flatMap(({ values }) => values),
          bound: Float64Array.from(results.flatMap(({ bound }) => bound)),
        },
      };
    },
  };
}

/** Every length of one sequence: a whole prompt in one step. */
function prompt(length: number): readonly (readonly [number, number])[] {
  return Array.from({ length }, (_, i) => [0, i + 1] as const);
}

const pagedShapes: readonly Omit<PagedShape, "format">[] = [
  { heads: 2, kvHeads: 1, headWidth: 8, pageTokens: 4, lengths: [3], rows: [] },
  { heads: 1, kvHeads: 1, headWidth: 2, pageTokens: 1, lengths: [1] },
  { heads: 2, kvHeads: 2, headWidth: 6, pageTokens: 4, lengths: [5], rows: [[0, 0], [0, 3]] },
  { heads: 4, kvHeads: 2, headWidth: 24, pageTokens: 16, lengths: [33], rows: prompt(33) },
  { heads: 6, kvHeads: 2, headWidth: 16, pageTokens: 16, lengths: [15, 16, 17, 1, 31, 32, 48] },
  { heads: 8, kvHeads: 8, headWidth: 10, pageTokens: 3, lengths: [4, 9] },
  { heads: 5, kvHeads: 1, headWidth: 64, pageTokens: 16, lengths: [40], rows: prompt(40) },
  { heads: 4, kvHeads: 2, headWidth: 128, pageTokens: 16, lengths: [300, 7] },
  { heads: 2, kvHeads: 1, headWidth: 32, pageTokens: 16, lengths: [50], size: 12 },
  { heads: 1, kvHeads: 1, headWidth: 12, pageTokens: 200, lengths: [333, 129] },
  {
    heads: 6,
    kvHeads: 3,
    headWidth: 20,
    pageTokens: 16,
    lengths: [290, 130],
    rows: [[0, 290], [0, 129], [0, 128], [1, 127], [1, 130], [0, 257], [0, 256], [0, 1]],
    size: 3,
  },
  {
    heads: 4,
    kvHeads: 2,
    headWidth: 32,
    pageTokens: 8,
    lengths: [20, 5, 70],
    rows: [[2, 70], [0, 20], [0, 7], [2, 64], [1, 5], [2, 65]],
  },
  // Long contexts, around the edges of the spans that GPU kernels cut them into.
  { heads: 4, kvHeads: 2, headWidth: 32, pageTokens: 16, lengths: [1500, 513, 512, 60] },
  {
    heads: 4,
    kvHeads: 2,
    headWidth: 64,
    pageTokens: 16,
    lengths: [1090],
    rows: [1, 63, 64, 65, 511, 512, 513, 514, 576, 577, 1023, 1024, 1025, 1026, 1089, 1090]
      .map((length) => [0, length] as const),
    size: 2,
  },
  // Rows of two sequences in one step, as when prompts share it.
  {
    heads: 6,
    kvHeads: 2,
    headWidth: 72,
    pageTokens: 16,
    lengths: [530, 40],
    rows: [
      ...Array.from({ length: 11 }, (_, i) => [0, 520 + i] as const),
      ...Array.from({ length: 9 }, (_, i) => [1, 32 + i] as const),
    ],
  },
];

export const attentionCases: readonly KernelCase[] = [
  ...(["f32", "f16", "q8"] as const).flatMap((format) =>
    pagedShapes.map((shape, i) => pagedCase({ ...shape, format }, 600 + i))
  ),
  ...[
    { segments: 0, segmentRows: 4, heads: 2, headWidth: 8 },
    { segments: 1, segmentRows: 1, heads: 1, headWidth: 1 },
    { segments: 3, segmentRows: 9, heads: 2, headWidth: 6 },
    { segments: 2, segmentRows: 16, heads: 3, headWidth: 16 },
    { segments: 2, segmentRows: 65, heads: 2, headWidth: 33 },
    { segments: 1, segmentRows: 256, heads: 2, headWidth: 64 },
    { segments: 2, segmentRows: 131, heads: 1, headWidth: 5 },
    { segments: 2, segmentRows: 20, heads: 2, headWidth: 32, size: 12 },
    { segments: 1, segmentRows: 530, heads: 1, headWidth: 40 },
    { segments: 1, segmentRows: 1, heads: 1, headWidth: 1, rounded: true },
    { segments: 3, segmentRows: 9, heads: 2, headWidth: 6, rounded: true },
    { segments: 2, segmentRows: 131, heads: 3, headWidth: 33, rounded: true },
    { segments: 1, segmentRows: 256, heads: 2, headWidth: 64, rounded: true },
    { segments: 2, segmentRows: 20, heads: 2, headWidth: 32, size: 4, rounded: true },
    { segments: 1, segmentRows: 530, heads: 1, headWidth: 40, rounded: true },
  ].map((shape, i) => segmentCase(shape, 640 + i)),
];
