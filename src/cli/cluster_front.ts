/** Opens the front of a cluster for one served model: the experts that the model then uses. */
import { systemClock } from "@/clock.ts";
import { defaultClusterBounds } from "@/cluster/bounds.ts";
import { ClusterGauges } from "@/cluster/cluster_gauges.ts";
import { ClusterTelemetry } from "@/cluster/cluster_telemetry.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import type { ExpertComputer } from "@/cluster/expert_server.ts";
import { FallbackExperts } from "@/cluster/fallback_experts.ts";
import { ClusterFront } from "@/cluster/front.ts";
import type { NodeIdentity } from "@/cluster/handshake.ts";
import { LOCAL_NODE, LocalNode } from "@/cluster/local_node.ts";
import type { Member } from "@/cluster/membership.ts";
import { defaultPlanPolicy, defaultSpareCopies } from "@/cluster/planner.ts";
import { RemoteExperts } from "@/cluster/remote_experts.ts";
import { ConnectedShards, LeasedShards, type ShardRegistry } from "@/cluster/shard_registry.ts";
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
import { type Precision, precisionLabel } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { type ClusterFlags, clusterIdentity, nodeName } from "./cluster_flags.ts";
import { openNatsMembership } from "./cluster_nats.ts";
import { VERSION } from "./version.ts";

export interface ClusterExperts {
  readonly experts: ExpertExecutor;
  readonly front: ClusterFront;
  /** Refuses requests while experts have no owner. */
  guard(generator: Generator): Generator;
  close(): Promise<void>;
}

/** What the model's owner says of it. */
type ClusteredModel = Partial<Precision> & {
  readonly folder: string;
  readonly synthetic?: boolean;
  readonly log: Logger;
  readonly metrics: Metrics;
};

/** The facts of one front that its parts share. */
interface FrontFacts {
  readonly identity: NodeIdentity;
  readonly precision: Precision;
  readonly grid: ExpertGrid;
  readonly log: Logger;
}

/**
 * Returns before any shard is there, but not before NATS is, if it is used. Throws OperatingError
 * for a dense model.
 */
export async function openClusterExperts(
  backend: Backend,
  model: ClusteredModel,
  cluster: ClusterFlags,
): Promise<ClusterExperts> {
  const { log, metrics } = model;
  await using stack = new AsyncDisposableStack();
  const openStore = () => ExpertStore.open({ ...model, folder: diskFolder(model.folder) });
  const openBank = async () => {
    const bank = new ExpertBank(backend, await openStore());
    stack.defer(() => bank.close());
    return bank;
  };
  const store = await openStore();
  stack.defer(() => store.close());
  const { precision } = store;
  const bank = cluster.localExperts === "none" ? undefined : await openBank();
  const grid = new ExpertGrid({ layers: store.layers, experts: store.moe.experts });
  const identity = await frontIdentity(backend, { ...model, precision, name: cluster.name });
  const facts = { identity, precision, grid, log };
  if (cluster.mixedClasses) {
    const ours = identity.numericClass;
    log.warn("shards of other numeric classes are taken: equal tokens are not promised", { ours });
  }
  const registry = await openRegistry(facts, cluster);
  const transport = transportOf(facts, cluster);
  const front = openFront(facts, cluster, { registry, transport, bank, metrics });
  stack.defer(() => front.close());
  if (cluster.localExperts === "all") {
    const failed = (what: string, error: unknown) => log.error(what, { error });
    // What falls back to disk comes and goes; this bank keeps what it has.
    const options = { grid, experts: await openBank(), identity, clock: systemClock, failed };
    const local = await LocalNode.start(options, (connection) => front.accept(connection));
    stack.defer(() => local.close());
  }
  if (cluster.listen !== undefined) {
    const listener = await transport.listen(cluster.listen, {
      accept: (connection) => front.accept(connection),
      refused: (error, peer) => log.warn("connection refused", { peer, reason: error.message }),
    });
    stack.defer(() => listener.close());
    log.info("shards may join", { address: listener.address });
  }
  const gauges = new ClusterGauges(metrics);
  stack.defer(metrics.onRender(() => gauges.update(front.status())));
  const opened = stack.move();
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
    close: () => opened.disposeAsync(),
  };
}

async function frontIdentity(
  backend: Backend,
  model: ClusteredModel & { precision: Precision; name: string | undefined },
): Promise<NodeIdentity> {
  const { folder, synthetic = false, precision, log } = model;
  const nodeId = model.name ?? nodeName(`front-${Deno.hostname()}-${Deno.pid}`);
  const weights = { folder, synthetic, backend, precision, log };
  return await clusterIdentity({ role: "front", nodeId, ...weights });
}

async function openRegistry(facts: FrontFacts, cluster: ClusterFlags): Promise<ShardRegistry> {
  const { identity, precision, grid, log } = facts;
  const member: Member = {
    id: identity.nodeId,
    incarnation: Math.floor(systemClock.epochMs()),
    role: "front",
    address: "",
    node: undefined,
  };
  const { addresses, nats } = cluster;
  const bounds = defaultClusterBounds;
  if (!nats) return new ConnectedShards({ front: member, addresses, clock: systemClock, bounds });
  const format = precisionLabel(precision);
  return new LeasedShards(await openNatsMembership(nats, { identity, format, grid, log }), member);
}

function transportOf(facts: FrontFacts, cluster: ClusterFlags): ClusterTransport {
  const { secret, tls, allowPlaintext, mixedClasses } = cluster;
  const protection = { secret, tls, allowPlaintext };
  // No class of its own fits all: shards need not be told that the server mixes them.
  const identity = mixedClasses ? { ...facts.identity, numericClass: "" } : facts.identity;
  return new ClusterTransport({ clock: systemClock, identity: () => identity, ...protection });
}

function openFront(
  { identity, precision, grid, log }: FrontFacts,
  cluster: ClusterFlags,
  parts: {
    registry: ShardRegistry;
    transport: ClusterTransport;
    bank: ExpertComputer | undefined;
    metrics: Metrics;
  },
): ClusterFront {
  const { weightHash, nodeId } = identity;
  const numericClass = cluster.mixedClasses ? undefined : identity.numericClass;
  const { registry, transport, bank, metrics } = parts;
  const { replicas, spareCopies = defaultSpareCopies(grid.experts), localExperts } = cluster;
  return new ClusterFront({
    ...{ id: nodeId, grid, registry, transport, clock: systemClock },
    policy: { ...defaultPlanPolicy, identity: { numericClass, weightHash }, replicas, spareCopies },
    ...wireOf(cluster, precision),
    fallback: bank && new FallbackExperts(bank, { keptMax: limits.fallbackExpertsMax }),
    localNode: localExperts === "all" ? LOCAL_NODE : undefined,
    telemetry: new ClusterTelemetry({
      clock: systemClock,
      metrics,
      tracer: cluster.tracer ?? (isTracing(Deno.env) ? openTracer(VERSION) : undefined),
    }),
    noticed: (message, facts) => log.info(message, facts),
  });
}

/**
 * Kernels of quantised weights read activations as int8 codes, whoever computes them: these are
 * exact, and shorter than bfloat16.
 */
function wireOf({ wire }: ClusterFlags, { quantisation }: Precision) {
  const isExact = wire !== "bf16";
  const stored = isExact ? "f32" : "bf16";
  return {
    encoding: quantisation === "none" ? stored : "int8",
    replyEncoding: isExact ? "f32" : "bf16",
  } as const;
}
