import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { openBackend } from "@/kernels/open.ts";
import { openCheckpoint } from "@/model/open_checkpoint.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { CueHead } from "./cue_head.ts";
import { cueNames } from "./cues.ts";
import type { ProgramBatch } from "./packed_forward.ts";
import { Parameter, ParameterSet } from "./parameter_set.ts";
import { readStore } from "./parameter_values.ts";
import { Trainer } from "./trainer.ts";
import { loadTrainable } from "./training_source.ts";

const folder = fileURLToPath(new URL("../../tests/fixtures/model/dense", import.meta.url));

Deno.test("the vision tower learns from cues alone what lies where", async () => {
  const backend = await openBackend({ name: "wasm", threads: 1, training: true });
  try {
    const { checkpoint, config } = await openCheckpoint({ folder: diskFolder(folder) });
    const loaded = await loadTrainable({ checkpoint, config, backend });
    checkpoint.close();
    const cues = new CueHead({ backend, width: config.vision.hiddenWidth, weight: 1 });
    const set = new ParameterSet([...loaded.set.parameters, ...cues.parameters]);
    const model = { ...loaded, set };
    set.choose(backend, ({ part }) => part === "vision" || part === "cues");
    const optimizer = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, normMax: 1 };
    const trainer = new Trainer({ backend, model, optimizer, cues });
    const { tileSize } = config.preprocess;
    const side = tileSize / config.vision.patchSize;
    const batch = batchOf({ tileSize, side, mergeFactor: config.mergeFactor });
    const patch = set.parameters.find(({ name }) => name === "vision.patch.weight")!;
    const before = await readStore(backend, patch.store);
    const losses: number[] = [];
    for (let step = 0; step < 30; step++) {
      const { cueLoss } = await trainer.step([batch], () => ({ rate: 0.01, decay: 0 }));
      losses.push(cueLoss!);
    }
    assert.ok(losses[29]! < 0.5 * losses[0]!, `${losses[0]} fell to ${losses[29]}`);
    const after = await readStore(backend, patch.store);
    assert.ok(after.some((value, i) => value !== before[i]), "gradients reach the tower");
    assert.ok(cues.parameters.every((parameter) => parameter instanceof Parameter));
    trainer.close();
  } finally {
    await backend.close();
  }
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
