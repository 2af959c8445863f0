/** Models that a GPU holds in part: what it leaves out runs on the wasm kernels, for the same tokens. */
import assert from "node:assert/strict";
import { openServing, type Serving, servingMemory, type ServingOptions } from "@/cli/serving.ts";
import type { GenerationRequest } from "@/engine/request.ts";
import { greedyParams } from "@/sampling/params.ts";
import { Logger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { webGpu } from "../kernels/backends.ts";
import { optionalTest } from "../skip.ts";
import { fixtureFolder } from "./server_process.ts";

/** What servings warn of: shown when something else answers than was asked for. */
const said: string[] = [];

function optionsOf(model: string, more: Partial<ServingOptions>): ServingOptions {
  return {
    id: model,
    folder: fixtureFolder(model),
    backend: { name: "webgpu", threads: 1 },
    quantisation: "none",
    uprightPictures: true,
    contextTokens: 512,
    log: new Logger({ level: "warn", write: (line) => said.push(line) }),
    metrics: new Metrics(),
    ...more,
  };
}

/** A prompt with one picture, 24 tokens on. */
async function answer({ served }: Serving): Promise<number[]> {
  const { tokensPerTile, tileSize } = served;
  const pixels = Uint8Array.from({ length: 3 * tileSize ** 2 }, (_, i) => (i * 37) % 251);
  const request: GenerationRequest = {
    id: "request",
    promptIds: Array.from({ length: tokensPerTile + 20 }, (_, i) => 40 + i % 17),
    tiles: [{ hash: "tile", pixels, start: 6 }],
    choices: 1,
    promptLogprobs: false,
    params: { ...greedyParams, maxTokens: 24, ignoreEos: true },
  };
  const ids: number[] = [];
  for await (const event of served.generator.submit(request, {})) {
    if (event.type === "token") ids.push(event.id);
  }
  assert.equal(ids.length, 24);
  return ids;
}

async function answerWith(options: ServingOptions): Promise<{ ids: number[]; serving: Serving }> {
  const serving = await openServing(options);
  try {
    return { ids: await answer(serving), serving };
  } finally {
    await serving.close();
  }
}

optionalTest(
  { name: "openServing() places experts, vision and dense layers as told", needs: [webGpu] },
  async () => {
    for (const model of ["moe", "dense"]) {
      const wasm = await answerWith(optionsOf(model, { backend: { name: "wasm", threads: 1 } }));
      const { totalBytes, parts } = await servingMemory(optionsOf(model, {}));
      const sum = (bytes: Readonly<Record<number, number>>) =>
        Object.values(bytes).reduce((total, each) => total + each, 0);
      const experts = totalBytes - sum(parts.experts);
      const placements: [ServingOptions["gpu"], RegExp][] = [
        [{ memoryBytes: totalBytes }, /^webgpu wgsl$/],
        [{ memoryBytes: experts - 1 }, /\+ wasm \(.*vision\)$/],
        model === "dense"
          ? [{ memoryBytes: experts - parts.vision - 1 }, /\+ wasm \(feed-forward \d, vision\)$/]
          : [{ expertLayers: 1 }, /\+ wasm \(experts 1-3\)$/],
        ...model === "moe"
          ? [[{ expertLayers: 0 }, /\+ wasm \(experts 0-3\)$/] as [ServingOptions["gpu"], RegExp]]
          : [],
      ];
      for (const [gpu, described] of placements) {
        const { ids, serving } = await answerWith(optionsOf(model, { gpu: gpu! }));
        assert.match(serving.served.facts.backend!, described, said.join("\n"));
        assert.deepEqual(ids, wasm.ids, `${model} ${serving.served.numericClass}`);
      }
    }
  },
);

optionalTest(
  { name: "openServing() runs on wasm alone when the GPU is too small", needs: [webGpu] },
  async () => {
    const { ids, serving } = await answerWith(optionsOf("moe", { gpu: { memoryBytes: 1000 } }));
    assert.match(serving.served.facts.backend!, /^wasm /);
    assert.equal(ids.length, 24);
  },
);
