import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readGoldens } from "@/cli/parity_fixtures.ts";
import { systemClock } from "@/clock.ts";
import { Engine } from "@/engine/engine.ts";
import type { GenerationRequest, PromptTile } from "@/engine/request.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";
import { loadModel } from "@/model/load.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { diskFolder } from "@/weights/disk_folder.ts";

const folder = fileURLToPath(new URL("../fixtures/model/dense", import.meta.url));

/** The golden request of a case: prompt ids, tiles where the image ids stand. */
async function goldenRequest(name: string, options: { imageId: number; tokensPerTile: number }) {
  const golden = await readGoldens(`${folder}/golden`, `${name}.safetensors`);
  const promptIds = [...golden.get("input_ids")!.values];
  const spans = promptIds.flatMap((id, i) => id === options.imageId ? [i] : []);
  const tiles: PromptTile[] = [];
  const pixels = golden.get("tiles_u8");
  if (pixels) {
    const [count, side] = pixels.shape as [number, number];
    for (let t = 0; t < count; t++) {
      const size = side * side * 3;
      const bytes = Uint8Array.from(pixels.values.slice(t * size, (t + 1) * size));
      const start = spans[t * options.tokensPerTile]!;
      tiles.push({ hash: `${name}-${t}`, pixels: bytes, start });
    }
  }
  const request: GenerationRequest = {
    id: name,
    promptIds,
    tiles,
    params: { ...greedyParams, maxTokens: 32, ignoreEos: true, topLogprobs: 5 },
    choices: 1,
    promptLogprobs: false,
  };
  return { request, greedyIds: [...golden.get("greedy_ids")!.values] };
}

Deno.test("Engine gives the golden tokens of a real checkpoint, batched in small chunks", async () => {
  const cases = JSON.parse(await Deno.readTextFile(`${folder}/golden/cases.json`));
  const backend = openReferenceBackend();
  const { model } = await loadModel({
    folder: diskFolder(folder),
    backend,
    quantisation: "none",
    bounds: { contextTokens: 1024 },
  });
  const engine = new Engine({
    model,
    kv: { format: "f32", pages: 64 },
    usableVocabulary: model.vocabularySize,
    forbiddenIds: [],
    clock: systemClock,
    log: silentLogger,
    metrics: new Metrics(),
    bounds: { stepTokens: 96, stepTiles: 2, runningSequences: 4 },
    checksIntegrity: true,
  });
  const rules = { imageId: cases.image_token_id, tokensPerTile: model.tokensPerTile };
  const goldens = await Promise.all(
    ["text", "image"].map((name) => goldenRequest(name, rules)),
  );
  await Promise.all(goldens.map(async ({ request, greedyIds }) => {
    const ids: number[] = [];
    for await (const event of engine.submit(request)) {
      if (event.type === "token") ids.push(event.id);
    }
    assert.deepEqual(ids, greedyIds, request.id);
  }));
  await engine.close();
  await backend.close();
});
