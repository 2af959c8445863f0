import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import { mergeOrder } from "@/model/adapter.ts";
import type { ModelConfig } from "@/model/config.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { answersOf, CueHead } from "./cue_head.ts";
import { cueKinds, type CueLosses, cueNames } from "./cues.ts";
import type { ProgramBatch } from "./packed_forward.ts";
import { ParameterSet } from "./parameter_set.ts";
import { readStore } from "./parameter_values.ts";
import { Trainer } from "./trainer.ts";
import { loadTrainable } from "./training_source.ts";

const folder = fileURLToPath(new URL("../../tests/fixtures/model/dense", import.meta.url));

Deno.test("answersOf() finds the patch behind each part of a visual token", () => {
  const patches = 16;
  const tile = new Uint8Array(cueNames.length * patches);
  for (let patch = 0; patch < patches; patch++) tile[patches + patch] = 10 + patch;
  const grid = { rows: 4, columns: 4 };
  const order = mergeOrder({ grid, factor: 2, order: "v2", count: 1 });
  const merge = { order, perToken: 4 };
  // Lower left patches of the four tokens, in both tiles.
  const found = answersOf([tile, tile], { kind: 1, part: 2, merge });
  assert.deepEqual([...found], [14, 16, 22, 24, 14, 16, 22, 24]);
  const all = answersOf([tile], { kind: 1, part: 0, merge: undefined });
  assert.deepEqual([...all], [...tile.subarray(patches, 2 * patches)]);
});

type Loaded = Awaited<ReturnType<typeof loadTrainable>>;

/** 30 steps on one tile with cues of a place, where a part learns besides them. */
async function learn(
  part: "vision" | "adapter",
  openHead: (options: { backend: Backend; config: ModelConfig }) => CueHead,
): Promise<{ losses: number[]; moved: (name: string) => boolean }> {
  const backend = await openBackend({ name: "wasm", threads: 1, training: true });
  try {
    const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
    const loaded = await loadTrainable({ checkpoint, config, backend });
    checkpoint.close();
    const cues = openHead({ backend, config });
    const set = new ParameterSet([...loaded.set.parameters, ...cues.parameters]);
    const model = { ...loaded, set };
    set.choose(backend, (parameter) => parameter.part === part || parameter.part === "cues");
    const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, normMax: 1 };
    const trainer = new Trainer({ backend, model, optimizer, cues: [cues] });
    const { tileSize } = config.preprocess;
    const side = tileSize / config.vision.patchSize;
    const batch = batchOf({ tileSize, side, mergeFactor: config.mergeFactor });
    const before = await valuesOf(backend, loaded);
    const losses: number[] = [];
    let first: CueLosses | undefined;
    for (let step = 0; step < 30; step++) {
      const { cueLosses } = await trainer.step([batch], () => ({ rate: 0.01, decay: 0 }));
      assert.deepEqual(Object.keys(cueLosses!), [cues.place]);
      const asked = cueLosses![cues.place]!;
      first ??= asked;
      const byKind = Object.values(asked);
      losses.push(byKind.reduce((all, one) => all + one, 0) / byKind.length);
    }
    const after = await valuesOf(backend, loaded);
    trainer.close();
    assertGuesses(first!, side ** 2 / (cues.place === "tokens" ? config.mergeFactor ** 2 : 1));
    const moved = (name: string) =>
      after.get(name)!.some((value, i) => value !== before.get(name)![i]);
    return { losses, moved };
  } finally {
    await backend.close();
  }
}

/** A head that starts at zero holds all answers for equally likely; half of the patches are empty. */
function assertGuesses(losses: CueLosses, patchesAsked: number): void {
  const half = patchesAsked / 2;
  for (const name of cueNames) {
    const expected = Math.log(cueKinds[name]) * 2 * half / (1 + half);
    assert.ok(Math.abs(losses[name] - expected) < 1e-4, `${name}: ${losses[name]}, ${expected}`);
  }
}

async function valuesOf(backend: Backend, { set }: Loaded): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const name of ["vision.patch.weight", "adapter.hidden.weight"]) {
    const { store } = set.parameters.find((parameter) => parameter.name === name)!;
    values.set(name, await readStore(backend, store));
  }
  return values;
}

Deno.test("the vision tower learns from cues alone what lies where", async () => {
  const { losses, moved } = await learn(
    "vision",
    ({ backend, config }) => new CueHead({ backend, width: config.vision.hiddenWidth, weight: 1 }),
  );
  assert.ok(losses[29]! < 0.5 * losses[0]!, `${losses[0]} fell to ${losses[29]}`);
  assert.ok(moved("vision.patch.weight"), "gradients reach the tower");
  assert.ok(!moved("adapter.hidden.weight"));
});

Deno.test("the adapter learns from cues of visual tokens to pass on what the tower sees", async () => {
  let names: string[] = [];
  const { losses, moved } = await learn("adapter", ({ backend, config }) => {
    const { tileSize } = config.preprocess;
    const side = tileSize / config.vision.patchSize;
    const { mergeFactor: factor, mergeOrder: order } = config;
    const grid = { rows: side, columns: side };
    const merge = { order: mergeOrder({ grid, factor, order, count: 1 }), perToken: factor ** 2 };
    const head = new CueHead({ backend, width: config.decoder.hiddenWidth, weight: 1, merge });
    names = head.parameters.map(({ name }) => name);
    return head;
  });
  assert.equal(names.length, 4 * cueNames.length);
  assert.equal(names[1], "cues.tokens.left.1");
  assert.ok(losses[29]! < 0.5 * losses[0]!, `${losses[0]} fell to ${losses[29]}`);
  assert.ok(moved("adapter.hidden.weight"), "gradients reach the adapter");
  assert.ok(!moved("vision.patch.weight"));
});

/** One tile, black with a white half; the answer is the token 5, which no gradient reaches. */
function batchOf(
  { tileSize, side, mergeFactor }: { tileSize: number; side: number; mergeFactor: number },
): ProgramBatch {
  const tiles = new Uint8Array(tileSize * tileSize * 3);
  tiles.fill(255, tiles.length / 2);
  const answers = new Uint8Array(cueNames.length * side * side);
  for (let kind = 0; kind < cueNames.length; kind++) {
    answers.fill(1, (kind + 0.5) * side * side, (kind + 1) * side * side);
  }
  const rows = (side / mergeFactor) ** 2 + 1;
  return {
    tokenIds: new Int32Array(rows).fill(3),
    positions: Int32Array.from({ length: rows }, (_, i) => i),
    tiles,
    visualRows: Int32Array.from({ length: rows - 1 }, (_, i) => i),
    scoredRows: Int32Array.of(rows - 1),
    targets: Int32Array.of(5),
    weights: Float32Array.of(1),
    cues: [answers],
  };
}
