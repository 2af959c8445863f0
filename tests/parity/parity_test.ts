/** Every committed fixture against all backends, exactly as `deno task parity` runs it. */
import assert from "node:assert/strict";
import { Flags } from "@/cli/flags.ts";
import { fixtureParity } from "@/cli/parity.ts";
import { findFixtures } from "@/cli/parity_fixtures.ts";
import { failed, parityTable } from "@/cli/parity_report.ts";
import { webGpu } from "../kernels/backends.ts";
import { optionalTest } from "../skip.ts";

const roots = ["model", "knobs", "training"].map((name) =>
  new URL(`../fixtures/${name}`, import.meta.url).pathname
);
const fixtures = (await Promise.all(roots.map(findFixtures))).flat();

Deno.test("the committed fixtures cover every kind", () => {
  const kinds = new Set(fixtures.map((fixture) => fixture.kind));
  for (
    const kind of [
      "model",
      "tokenizer",
      "preprocess",
      "resize",
      "prompt",
      "decode",
      "training",
      "data",
    ]
  ) {
    assert.ok(kinds.has(kind as "model"), kind);
  }
});

for (const fixture of fixtures) {
  Deno.test(`parity of ${fixture.name}`, async () => {
    const rows = await fixtureParity(fixture, new Flags({}, []));
    assert.ok(rows.length > 0);
    assert.deepEqual(rows.filter(failed), [], `\n${parityTable(rows)}`);
  });
}

for (const fixture of fixtures.filter(({ kind }) => kind === "model")) {
  optionalTest({ name: `parity of ${fixture.name} on webgpu`, needs: [webGpu] }, async () => {
    const rows = await fixtureParity(fixture, new Flags({ backend: "webgpu" }, []));
    assert.ok(rows.length > 0);
    assert.deepEqual(rows.filter(failed), [], `\n${parityTable(rows)}`);
  });
}
