import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { openOnGpu } from "./gpu_serving.ts";
import type { Serving, ServingOptions } from "./serving.ts";

function optionsWith(metrics: Metrics): ServingOptions {
  return {
    id: "model",
    folder: "nowhere",
    backend: { name: "webgpu", threads: 2 },
    uprightPictures: false,
    log: silentLogger,
    metrics,
  };
}

Deno.test("openOnGpu() opens the wasm kernels when the GPU cannot be opened, and counts it", async () => {
  const metrics = new Metrics();
  const opened: ServingOptions["backend"][] = [];
  const serving = await openOnGpu(optionsWith(metrics), ({ backend }) => {
    opened.push(backend);
    if (backend.name === "webgpu") throw new OperatingError("unavailable", "Cannot open: no GPU");
    return Promise.resolve({ served: { id: "on wasm" } } as unknown as Serving);
  });
  assert.equal(serving.served.id, "on wasm");
  assert.deepEqual(opened.map(({ name, threads }) => [name, threads]), [["webgpu", 2], [
    "wasm",
    2,
  ]]);
  assert.match(metrics.render(), /flotilla_backend_fallbacks_total\{when="start"\} 1/);
});

Deno.test("openOnGpu() does not hide what is wrong with the model", async () => {
  const error = new OperatingError("checkpoint_invalid", "Cannot read config.json");
  const opening = openOnGpu(optionsWith(new Metrics()), () => Promise.reject(error));
  await assert.rejects(opening, error);
});

Deno.test("openOnGpu() names the class and the backend that answer after a loss", async () => {
  const engine = (isLost: boolean) => ({
    stats: () => ({ healthy: !isLost }),
    submit: () => {
      assert.ok(!isLost);
      return (async function* () {})();
    },
    close: () => Promise.resolve(),
  });
  const closed: unknown[] = [];
  const servings = [["gpu", true], ["wasm", false]].map(([name, isLost]) => {
    const own = engine(isLost === true);
    return {
      served: { id: "model", numericClass: `${name}/1`, facts: { backend: name }, generator: own },
      engine: own,
      backend: { lost: undefined },
      problem: () => undefined,
      close: () => Promise.resolve(closed.push(name)),
    };
  }) as unknown as Serving[];
  const serving = await openOnGpu(
    optionsWith(new Metrics()),
    ({ backend }) => Promise.resolve(servings[backend.name === "webgpu" ? 0 : 1]!),
  );
  assert.equal(serving.served.numericClass, "gpu/1");
  assert.equal(serving.served.id, "model");
  const request = { choices: 1 } as unknown as Parameters<typeof serving.engine.submit>[0];
  for await (const _ of serving.served.generator.submit(request, {}));
  assert.equal(serving.served.numericClass, "wasm/1");
  assert.equal(serving.served.facts.backend, "wasm");
  assert.deepEqual(closed, ["gpu"]);
  await serving.close();
  assert.deepEqual(closed, ["gpu", "wasm"]);
});
