/**
 * Serving on a GPU with the wasm kernels behind it: they take over at start when there is no GPU or
 * the model does not fit, and later when the GPU is lost; running requests go on there.
 */
import { Failover } from "@/engine/failover.ts";
import { OperatingError } from "@/errors.ts";
import type { Serving, ServingOptions } from "./serving.ts";

type OpenServing = (options: ServingOptions) => Promise<Serving>;

/** `open` opens a model on the backend that its options name. */
export async function openOnGpu(options: ServingOptions, open: OpenServing): Promise<Serving> {
  const log = options.log.with({ model: options.id });
  const openNext = (when: "start" | "running", error: unknown) => {
    options.metrics.count("flotilla_backend_fallbacks_total", 1, { when });
    log.warn("GPU cannot be used: the wasm kernels take over", { when, error });
    return open({ ...options, backend: { ...options.backend, name: "wasm" } });
  };
  try {
    const serving = await open(options);
    // A cluster's front guards its engine and keeps its own promises.
    return serving.cluster ? serving : withFailover(serving, (error) => openNext("running", error));
  } catch (error) {
    if (!(error instanceof OperatingError && error.code === "unavailable")) throw error;
    return await openNext("start", error);
  }
}

function withFailover(first: Serving, openNext: (error: unknown) => Promise<Serving>): Serving {
  const now = { serving: first };
  let opening: Promise<Serving> | undefined;
  const failover = new Failover({
    engine: first.engine,
    openNext: async () => {
      opening = openNext(first.backend.lost);
      now.serving = await opening;
      return now.serving.engine;
    },
  });
  const served = Object.create(first.served, {
    generator: { value: failover, enumerable: true },
    numericClass: { get: () => now.serving.served.numericClass, enumerable: true },
    facts: { get: () => now.serving.served.facts, enumerable: true },
  });
  return {
    served,
    get backend() {
      return now.serving.backend;
    },
    get engine() {
      return now.serving.engine;
    },
    problem: () => now.serving.problem(),
    cluster: undefined,
    close: async () => {
      await opening?.catch(() => {});
      if (now.serving !== first) await now.serving.close();
      await first.close();
    },
  };
}
