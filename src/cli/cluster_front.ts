/** Opens the front of a cluster for one served model: the experts that the model then uses. */
import { systemClock } from "@/clock.ts";
import { ClusterGauges } from "@/cluster/cluster_gauges.ts";
import { ClusterTelemetry } from "@/cluster/cluster_telemetry.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import { FallbackExperts } from "@/cluster/fallback_experts.ts";
import { ClusterFront } from "@/cluster/front.ts";
import { defaultPlanPolicy } from "@/cluster/planner.ts";
import { RemoteExperts } from "@/cluster/remote_experts.ts";
import { ClusterTransport } from "@/cluster/transport.ts";
import type { Generator } from "@/engine/request.ts";
import type { Backend } from "@/kernels/backend.ts";
import { limits } from "@/limits.ts";
import { ExpertBank } from "@/model/expert_bank.ts";
import { ExpertStore } from "@/model/expert_store.ts";
import type { ExpertExecutor } from "@/model/experts.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import { isTracing, openTracer } from "@/telemetry/trace.ts";
import type { Precision } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type ClusterFlags, clusterIdentity, nodeName } from "./cluster_flags.ts";
import { VERSION } from "./version.ts";

export interface ClusterExperts {
  readonly experts: ExpertExecutor;
  readonly front: ClusterFront;
  /** Refuses requests while experts have no owner. */
  guard(generator: Generator): Generator;
  close(): Promise<void>;
}

/** Returns at once; the shards may come later. Throws OperatingError for a dense model. */
export async function openClusterExperts(
  backend: Backend,
  model: Partial<Precision> & {
    folder: string;
    synthetic?: boolean;
    id: string;
    log: Logger;
    metrics: Metrics;
  },
  cluster: ClusterFlags,
): Promise<ClusterExperts> {
  const { folder, synthetic = false, log, metrics } = model;
  const store = await ExpertStore.open({ ...model, folder: diskFolder(folder) });
  const { precision, layers, moe } = store;
  const bank = cluster.fallback ? new ExpertBank(backend, store) : undefined;
  if (!bank) store.close();
  const nodeId = nodeName(`front-${Deno.hostname()}-${Deno.pid}`);
  const identity = await clusterIdentity({
    ...{ role: "front", nodeId, folder, synthetic, backend, precision, log },
  });
  const { numericClass, weightHash } = identity;
  const transport = new ClusterTransport({
    clock: systemClock,
    identity: () => identity,
    secret: cluster.secret,
    allowPlaintext: cluster.allowPlaintext,
  });
  const front = new ClusterFront({
    id: nodeId,
    grid: new ExpertGrid({ layers, experts: moe.experts }),
    addresses: cluster.addresses,
    transport,
    clock: systemClock,
    policy: {
      ...defaultPlanPolicy,
      identity: { numericClass, weightHash },
      replicas: cluster.replicas,
    },
    // Kernels of quantised weights read activations as int8 codes, whoever computes them.
    encoding: precision.quantisation === "none" ? "f32" : "int8",
    fallback: bank && new FallbackExperts(bank, { keptMax: limits.fallbackExpertsMax }),
    telemetry: new ClusterTelemetry({
      clock: systemClock,
      metrics,
      tracer: isTracing(Deno.env) ? openTracer(VERSION) : undefined,
    }),
    noticed: (message, facts) => log.info(message, facts),
  });
  const gauges = new ClusterGauges(metrics);
  const stopGauges = metrics.onRender(() => gauges.update(front.status()));
  return {
    experts: new RemoteExperts(backend, front),
    front,
    guard: (generator) => ({
      submit(request, options) {
        const problem = front.problem();
        if (problem) throw problem;
        return generator.submit(request, options);
      },
    }),
    async close() {
      stopGauges();
      await front.close();
      bank?.close();
    },
  };
}
