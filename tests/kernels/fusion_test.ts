/** What neighbouring ops become on a GPU, and steps that repeat. */
import assert from "node:assert/strict";
import { openWebGpuBackend } from "@/kernels/webgpu/backend.ts";
import { optionalTest } from "../skip.ts";
import { webGpu } from "./backends.ts";
import { DecoderLayer, differencesOfLayer, layerCases } from "./decoder_layer.ts";

/** Counts dispatches of all compute passes. */
class DispatchCount implements Disposable {
  count = 0;
  readonly #dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;

  constructor() {
    const counter = { dispatched: () => void this.count++ };
    const dispatch = this.#dispatch;
    GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...args) {
      counter.dispatched();
      return dispatch.apply(this, args);
    };
  }

  [Symbol.dispose](): void {
    GPUComputePassEncoder.prototype.dispatchWorkgroups = this.#dispatch;
  }
}

const whole = () => Promise.resolve();

optionalTest(
  { name: "webgpu records decoder layers at once with the bits of single ops", needs: [webGpu] },
  async () => {
    const backend = await openWebGpuBackend();
    for (const options of layerCases) {
      assert.deepEqual(await differencesOfLayer(backend, options), []);
    }
    await backend.close();
  },
);

optionalTest(
  {
    name: "webgpu takes nine dispatches for a quantised decoder layer, not twenty-five",
    needs: [webGpu],
  },
  async () => {
    const backend = await openWebGpuBackend();
    const layer = new DecoderLayer(backend, {
      ...{ format: "q4", kv: "f16", rows: 1, together: true, tokens: 20 } as const,
    });
    await layer.pack("q4");
    const count = async (after: () => Promise<void>) => {
      layer.start();
      using dispatches = new DispatchCount();
      await layer.record(after);
      await backend.flush();
      return dispatches.count;
    };
    assert.equal(await count(() => backend.flush()), 50);
    // The last sum has no norm behind it.
    assert.equal(await count(whole), 19);
    await backend.close();
  },
);

optionalTest(
  {
    name: "webgpu repeat() gives the bits of recording anew, and keeps to live buffers",
    needs: [webGpu],
  },
  async () => {
    const backend = await openWebGpuBackend();
    const layer = new DecoderLayer(backend, { kv: "f16", rows: 2, together: true, tokens: 20 });
    await layer.pack("q4");
    let recorded = 0;
    const run = async (seed: number, key: string) => {
      layer.start(seed);
      const value = await backend.repeat!({ owner: layer, key }, async () => {
        await layer.record(whole);
        return ++recorded;
      });
      return { value, results: await layer.results() };
    };
    const first = await run(7, "a");
    const other = await run(8, "b");
    assert.notDeepEqual(other.results, first.results);
    assert.deepEqual(await run(7, "a"), first);
    assert.deepEqual(await run(8, "b"), other);
    assert.equal(recorded, 2);
    // A buffer that goes takes the kept dispatches along, which might name it.
    backend.free(backend.allocate("f32", [64]));
    assert.deepEqual((await run(7, "a")).results, first.results);
    assert.equal(recorded, 3);
    for (let i = 0; i < 10; i++) await run(i, `many ${i}`);
    assert.equal(recorded, 13);
    assert.deepEqual((await run(7, "a")).results, first.results);
    assert.equal(recorded, 14);
    await backend.close();
  },
);
