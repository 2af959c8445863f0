/**
 * Serving on a GPU with the wasm kernels behind it: they take over at start when there is no GPU or
 * the model does not fit, and later when the GPU is lost; running requests go on there.
 */
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import { type FailingEngine, Failover } from "@/engine/failover.ts";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
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
    return withFailover(serving, (error) => openNext("running", error));
  } catch (error) {
    if (!(error instanceof OperatingError && error.code === "unavailable")) throw error;
    return await openNext("start", error);
  }
}

function withFailover(first: Serving, openNext: (error: unknown) => Promise<Serving>): Serving {
  const now = { serving: first };
  let opening: Promise<Serving> | undefined;
  const failover = new Failover({
    engine: answering(first),
    openNext: async () => {
      opening = (async () => {
        const cause = first.backend.lost;
        // It holds memory, and as a cluster's front a name and a port, that its successor needs.
        await first.close();
        const next = await openNext(cause);
        await readiness(next);
        return next;
      })();
      now.serving = await opening;
      return answering(now.serving);
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
    cluster: first.cluster && controlOf(() => now.serving.cluster!),
    close: async () => {
      await opening?.catch(() => {});
      if (now.serving !== first || opening === undefined) await now.serving.close();
    },
  };
}

/** A new front of a cluster meets its shards first; after a while its requests are told what lacks. */
async function readiness(serving: Serving): Promise<void> {
  const endMs = systemClock.nowMs() + limits.failoverCoverMs;
  while (serving.problem() !== undefined && systemClock.nowMs() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, limits.frontTickMs));
  }
}

/** What of a serving takes requests: a cluster's front may refuse some before the engine. */
function answering({ served, engine }: Serving): FailingEngine {
  return {
    submit: (request, options = {}) => served.generator.submit(request, options),
    stats: () => engine.stats(),
  };
}

/** The control of whoever is the front at the time. */
function controlOf(front: () => ClusterControl): ClusterControl {
  return {
    status: () => front().status(),
    experts: (layer) => front().experts(layer),
    drain: (node, draining) => front().drain(node, draining),
    rebalance: () => front().rebalance(),
  };
}
