/** Attention with rounded operands: the kernels round by the reference's rules. */
import assert from "node:assert/strict";
import type { Backend } from "@/kernels/backend.ts";
import { optionalTest } from "../skip.ts";
import { fastEntries, referenceEntry } from "./backends.ts";
import { Draw } from "./naive.ts";

const SEGMENT_ROWS = 150;
const ROWS = 2 * SEGMENT_ROWS;
const HEADS = 2;
const HEAD_WIDTH = 48;

const draw = new Draw(77);
const [query, key, value] = [0, 1, 2].map(() => draw.normals(ROWS * HEADS * HEAD_WIDTH, 1)) as [
  Float32Array,
  Float32Array,
  Float32Array,
];

async function attended(backend: Backend, rounded: boolean): Promise<Float32Array> {
  const upload = (values: Float32Array) => {
    const tensor = backend.allocate("f32", [ROWS, HEADS * HEAD_WIDTH]);
    backend.write(tensor, values);
    return tensor;
  };
  const out = upload(new Float32Array(query.length));
  backend.ops.segmentAttention({
    query: upload(query),
    key: upload(key),
    value: upload(value),
    segmentRows: SEGMENT_ROWS,
    heads: HEADS,
    scale: HEAD_WIDTH ** -0.5,
    rounded,
    out,
  });
  const values = await backend.read(out);
  assert.ok(values instanceof Float32Array);
  return values.slice();
}

/** Root of the mean squared difference, as a share of the values' own. */
function distance(values: Float32Array, others: Float32Array): number {
  const difference = values.map((value, i) => value - others[i]!);
  const size = (of: Float32Array) => Math.sqrt(of.reduce((sum, value) => sum + value ** 2, 0));
  return size(difference) / size(others);
}

const reference = await referenceEntry.open();
const [whole, rounded] = [await attended(reference, false), await attended(reference, true)];

for (const { label, needs, open } of fastEntries.filter(({ label }) => label.startsWith("wasm"))) {
  optionalTest(
    { name: `rounded attention is that of the reference: ${label}`, needs },
    async () => {
      const backend = await open();
      try {
        const values = await attended(backend, true);
        // A probability near the middle of two steps may take the other one.
        assert.ok(distance(values, rounded) < 2e-4, `${distance(values, rounded)}`);
        const price = distance(values, whole);
        assert.ok(price > 2e-3 && price < 2e-2, `rounding costs ${price}`);
      } finally {
        await backend.close();
      }
    },
  );
}
