/** Engines that are lost while they answer: others go on, and no client sees it in the tokens. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { systemClock } from "@/clock.ts";
import { Engine } from "@/engine/engine.ts";
import { Failover } from "@/engine/failover.ts";
import type { EngineEvent, Generation, GenerationRequest } from "@/engine/request.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import { openBackend } from "@/kernels/open.ts";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
import type { LanguageModel } from "@/model/language_model.ts";
import { loadModel } from "@/model/load.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { webGpu } from "../kernels/backends.ts";
import { optionalTest } from "../skip.ts";
import { FakeModel, IMAGE_ID, USABLE_VOCABULARY } from "./fake_model.ts";
import { directAnswer } from "./workload.ts";

const CONTEXT = 200;

function engineOf(
  model: LanguageModel,
  options: { usableVocabulary: number; forbidden: number[] },
) {
  return new Engine({
    model,
    kv: { format: "f32", pages: 100 },
    usableVocabulary: options.usableVocabulary,
    forbiddenIds: options.forbidden,
    clock: systemClock,
    log: silentLogger,
    metrics: new Metrics(),
    bounds: { pageTokens: 4, stepTokens: 16, runningSequences: 8 },
    checksIntegrity: true,
  });
}

function fakeEngine() {
  const model = new FakeModel({ contextTokens: CONTEXT });
  const engine = engineOf(model, {
    usableVocabulary: USABLE_VOCABULARY,
    forbidden: [IMAGE_ID],
  });
  return { engine, model };
}

function request(options: Partial<GenerationRequest> = {}): GenerationRequest {
  return {
    id: "request",
    promptIds: [5, 6, 7, 8, 9, 10],
    tiles: [],
    choices: 1,
    promptLogprobs: false,
    params: { ...greedyParams, maxTokens: 40, ignoreEos: true },
    ...options,
  };
}

/** Reads everything; calls `at` after each event. */
async function read(
  generation: Generation,
  at: (events: readonly EngineEvent[]) => void = () => {},
): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  for await (const event of generation) {
    events.push(event);
    at(events);
  }
  return events;
}

function tokensOf(events: readonly EngineEvent[], choice = 0): number[] {
  return events.flatMap((event) =>
    event.type === "token" && event.choice === choice ? [event.id] : []
  );
}

/** The fake's device goes away: every flush fails, and the backend says so. */
function lose(model: FakeModel): void {
  const error = new OperatingError("unavailable", "Cannot compute on the GPU: lost");
  model.backend.failure = () => error;
  model.backend.lost = error;
}

Deno.test("Failover goes on where a lost engine stopped, with the same tokens", async () => {
  const asked = [
    request(),
    request({
      params: { ...greedyParams, maxTokens: 50, temperature: 1, seed: 4, ignoreEos: true },
    }),
    request({
      choices: 3,
      params: { ...greedyParams, maxTokens: 30, temperature: 0.7, frequencyPenalty: 0.4, seed: 9 },
    }),
    request({ promptLogprobs: true, params: { ...greedyParams, maxTokens: 25, topLogprobs: 2 } }),
  ];
  for (const lossAfter of [0, 1, 9, 20]) {
    const [first, second] = [fakeEngine(), fakeEngine()];
    let opened = 0;
    const failover = new Failover({
      engine: first.engine,
      openNext: () => (opened++, Promise.resolve(second.engine)),
    });
    if (lossAfter === 0) lose(first.model);
    const answers = await Promise.all(asked.map((each) =>
      read(failover.submit(each), (events) => {
        if (tokensOf(events).length === lossAfter) lose(first.model);
      })
    ));
    for (const [i, events] of answers.entries()) {
      for (let choice = 0; choice < asked[i]!.choices; choice++) {
        const { ids } = directAnswer(asked[i]!, { choice, contextTokens: CONTEXT });
        assert.deepEqual(tokensOf(events, choice), ids, `request ${i} lost after ${lossAfter}`);
        const ends = events.filter((e) => e.type === "finish" && e.choice === choice);
        assert.equal(ends.length, 1);
      }
      const logprobs = events.filter((event) => event.type === "prompt_logprobs");
      assert.equal(logprobs.length, asked[i]!.promptLogprobs ? 1 : 0);
    }
    assert.equal(opened, 1);
    // Later requests go to the new engine at once.
    const { ids } = directAnswer(request(), { choice: 0, contextTokens: CONTEXT });
    assert.deepEqual(tokensOf(await read(failover.submit(request()))), ids);
    await first.engine.close();
    await second.engine.close();
  }
});

Deno.test("Failover ends requests when nothing can take over, and when it was not the engine", async () => {
  const { engine, model } = fakeEngine();
  const cause = new OperatingError("unavailable", "Cannot open the other");
  const failover = new Failover({ engine, openNext: () => Promise.reject(cause) });
  model.backend.failure = () => new Error("a bug");
  await assert.rejects(read(failover.submit(request())), { code: "internal" });
  lose(model);
  await assert.rejects(read(failover.submit(request())), cause);
  await assert.rejects(read(failover.submit(request())), cause);
  await engine.close();
});

Deno.test("Failover cuts a choice that was cut before the loss, and hears later cuts", async () => {
  const [first, second] = [fakeEngine(), fakeEngine()];
  const failover = new Failover({
    engine: first.engine,
    openNext: () => Promise.resolve(second.engine),
  });
  const generation = failover.submit(request({ choices: 2 }));
  const events = await read(generation, (seen) => {
    if (tokensOf(seen).length === 5) generation.finishChoice(0);
    if (tokensOf(seen, 1).length === 10) lose(first.model);
    if (tokensOf(seen, 1).length === 20) generation.finishChoice(1);
  });
  assert.ok(tokensOf(events).length < 10);
  assert.ok(tokensOf(events, 1).length >= 20 && tokensOf(events, 1).length < 30);
  await first.engine.close();
  await second.engine.close();
});

/** nano on a backend. */
async function nanoEngine(backend: Backend): Promise<Engine> {
  const folder = fileURLToPath(new URL("../../models/nano", import.meta.url));
  const { model } = await loadModel({ folder: diskFolder(folder), backend, quantisation: "none" });
  return engineOf(model, { usableVocabulary: model.vocabularySize, forbidden: [] });
}

optionalTest(
  { name: "a destroyed GPU device hands its requests to wasm", needs: [webGpu] },
  async () => {
    let device: GPUDevice | undefined;
    // The real one, but its device can be reached.
    const gpu = {
      wgslLanguageFeatures: navigator.gpu.wgslLanguageFeatures,
      requestAdapter: async (options?: GPURequestAdapterOptions) => {
        const adapter = (await navigator.gpu.requestAdapter(options))!;
        return {
          ...{ features: adapter.features, limits: adapter.limits, info: adapter.info },
          requestDevice: async (descriptor?: GPUDeviceDescriptor) =>
            device = await adapter.requestDevice(descriptor),
        };
      },
    } as unknown as GPU;
    const graphics = await openWebGpuBackend({ gpu });
    const wasm = await openBackend({ name: "wasm", threads: 1 });
    const [first, second] = [await nanoEngine(graphics), await nanoEngine(wasm)];
    const failover = new Failover({ engine: first, openNext: () => Promise.resolve(second) });
    const asked = request({ params: { ...greedyParams, maxTokens: 60, temperature: 1, seed: 2 } });
    const expected = tokensOf(await read(second.submit(asked)));
    const answers = await Promise.all([0, 1].map(() =>
      read(failover.submit(asked), (events) => {
        if (tokensOf(events).length === 12) device!.destroy();
      })
    ));
    assert.match(graphics.lost?.message ?? "", /the GPU was lost \(destroyed/);
    assert.equal(first.stats().healthy, false);
    for (const events of answers) assert.deepEqual(tokensOf(events), expected);
    await first.close();
    await second.close();
    await graphics.close();
    await wasm.close();
  },
);
