/** A page's bytes carry everything that attention reads: restored elsewhere, they give equal bits. */
import assert from "node:assert/strict";
import type { Backend, KvFormat } from "@/kernels/backend.ts";
import { optionalTest } from "../skip.ts";
import { backendEntries } from "./backends.ts";
import { Bench } from "./case.ts";
import { Draw } from "./naive.ts";

const SHAPE = { layers: 2, pages: 5, pageTokens: 6, kvHeads: 2, headWidth: 10 };
const TOKENS = 11;
const WIDTH = SHAPE.kvHeads * SHAPE.headWidth;

/** Moves two pages of one cache to other places in another; returns attention before and after. */
async function attendThroughMove(backend: Backend, format: KvFormat) {
  const bench = new Bench(backend);
  const draw = new Draw(7);
  const [from, to] = [
    backend.createKvCache({ ...SHAPE, format }),
    backend.createKvCache({ ...SHAPE, format }),
  ];
  const [oldPages, newPages] = [[3, 1], [0, 4]];
  const slots = Array.from({ length: TOKENS }, (_, t) => oldPages[Math.floor(t / 6)]! * 6 + t % 6);
  const slot = bench.i32(slots, [TOKENS]);
  const query = bench.f32(draw.normals(2 * WIDTH), [1, 2 * WIDTH]);
  for (let layer = 0; layer < SHAPE.layers; layer++) {
    const [key, value] = [0, 1].map(() => bench.f32(draw.normals(TOKENS * WIDTH), [TOKENS, WIDTH]));
    backend.ops.writeKv({ cache: from, layer, key: key!, value: value!, slot });
  }
  for (const [i, page] of oldPages.entries()) {
    backend.writeKvPage(to, newPages[i]!, await backend.readKvPage(from, page));
  }
  const attend = async (cache: typeof from, layer: number, pages: number[]) => {
    const out = bench.out("f32", [1, 2 * WIDTH]);
    backend.ops.attention({
      query,
      cache,
      layer,
      rowSequence: bench.i32([0], [1]),
      rowLength: bench.i32([TOKENS], [1]),
      pageTable: bench.i32(pages, [1, 2]),
      heads: 2 * SHAPE.kvHeads,
      scale: 0.3,
      out,
    });
    return await backend.read(out);
  };
  const layers = [0, 1];
  const before = await Promise.all(layers.map((layer) => attend(from, layer, oldPages)));
  const after = await Promise.all(layers.map((layer) => attend(to, layer, newPages)));
  const short = (await backend.readKvPage(from, 0)).subarray(1);
  assert.throws(() => backend.writeKvPage(to, 0, short), RangeError);
  backend.free(from);
  backend.free(to);
  return { before, after };
}

for (const entry of backendEntries) {
  const name = `${entry.label}: restored KV pages give equal bits`;
  optionalTest({ name, needs: entry.needs }, async () => {
    const backend = await entry.open();
    for (const format of ["f32", "f16", "q8"] as const) {
      const { before, after } = await attendThroughMove(backend, format);
      assert.deepEqual(after, before, format);
      assert.ok(before[0]!.some((value) => value !== 0), "attention read something");
      assert.notDeepEqual(before[0], before[1], "layers differ");
    }
    await backend.close();
  });
}
