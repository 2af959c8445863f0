/** `shard`: holds experts of a sparse model and computes them for servers. */
import { systemClock } from "@/clock.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import { ExpertServer } from "@/cluster/expert_server.ts";
import { Holdings } from "@/cluster/holdings.ts";
import { checkNodeId } from "@/cluster/member_text.ts";
import type { Member } from "@/cluster/membership.ts";
import { ClusterTransport } from "@/cluster/transport.ts";
import { openBackend } from "@/kernels/open.ts";
import { ExpertBank } from "@/model/expert_bank.ts";
import { ExpertStore } from "@/model/expert_store.ts";
import { Logger, type LogLevel } from "@/telemetry/log.ts";
import { diskFolder } from "@/weights/source.ts";
import { backendFlags } from "./backend_flags.ts";
import { clusterIdentity, clusterSecret, nodeName } from "./cluster_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { precisionFlags } from "./precision_flags.ts";
import { modelFolders } from "./serve.ts";
import { printLine } from "./terminal.ts";

const MIB = 1024 * 1024;
/** Share of the free memory that experts may take when no size is named. */
const MEMORY_SHARE = 0.75;
/** Kernel heap, scratch and staging beside the experts. */
const WORK_BYTES = 192 * MIB;

/** Slots of `--experts`; undefined: all, when they are asked for. */
function offeredSlots(flags: Flags, grid: ExpertGrid): Set<number> | undefined {
  const text = flags.string("experts") ?? "auto";
  if (text === "auto") return undefined;
  const slots = new Set<number>();
  for (const range of text.split(",")) {
    const [first, last = first] = range.split("-").map(Number) as [number, number?];
    if (last >= grid.experts || first > last) {
      throw new UsageError(`--experts names ${range}, the model has 0-${grid.experts - 1}`);
    }
    for (const layer of grid.layers) {
      for (let expert = first; expert <= last; expert++) slots.add(grid.slot(layer, expert));
    }
  }
  return slots;
}

function memoryFor(flags: Flags, need: number): number {
  const mib = flags.number("expert-mib");
  if (mib !== undefined) return mib * MIB;
  return Math.min(need, Math.floor(MEMORY_SHARE * Deno.systemMemoryInfo().available));
}

export async function shard(flags: Flags): Promise<number> {
  const [model, another] = modelFolders(flags);
  if (another) throw new UsageError("--model is given twice, expected one");
  const log = new Logger({
    level: (flags.string("log") ?? "info") as LogLevel,
    format: Deno.stderr.isTerminal() ? "pretty" : "json",
  });
  const folder = model!.folder;
  const synthetic = flags.on("synthetic");
  const store = await ExpertStore.open({
    folder: diskFolder(folder),
    synthetic,
    ...precisionFlags(flags),
  });
  const grid = new ExpertGrid({ layers: store.layers, experts: store.moe.experts });
  const { expertBytes } = store;
  const offers = offeredSlots(flags, grid);
  const memoryBytes = memoryFor(flags, (offers?.size ?? grid.size) * expertBytes);
  const backend = await openBackend({
    memoryBytes: memoryBytes + WORK_BYTES,
    ...backendFlags(flags),
  });
  const bank = new ExpertBank(backend, store);
  try {
    const speed = await measureSpeed(bank, grid);
    const listen = flags.string("listen") ?? "127.0.0.1:7070";
    const nodeId = flags.string("name") ?? nodeName(`${Deno.hostname()}-${listen}`);
    checkNodeId(nodeId);
    const identity = await clusterIdentity({
      ...{ role: "shard", nodeId, folder, synthetic, backend, log },
      precision: store.precision,
    });
    const incarnation = Math.floor(systemClock.epochMs());
    const { numericClass, weightHash } = identity;
    const draining = false;
    const node = { id: nodeId, speed, memoryBytes, expertBytes, numericClass, weightHash };
    const member: Member = {
      ...{ id: nodeId, incarnation, role: "shard", address: "" },
      node: { ...node, draining, offers },
    };
    const capacity = Math.floor(memoryBytes / expertBytes);
    const holdings = new Holdings({ node: nodeId, incarnation, grid, capacity });
    const failed = (what: string, error: unknown) => log.error(what, { error });
    const server = new ExpertServer({
      ...{ grid, holdings, experts: bank, member, failed },
      clock: systemClock,
    });
    const transport = new ClusterTransport({
      clock: systemClock,
      identity: () => identity,
      secret: await clusterSecret(flags),
      allowPlaintext: flags.on("allow-plaintext"),
      load: () => server.load(),
    });
    const listener = await transport.listen(listen, {
      accept: (connection) => {
        log.info("server connected", { peer: connection.peer.nodeId });
        server.accept(connection);
      },
      refused: (error, peer) => log.warn("connection refused", { peer, reason: error.message }),
    });
    printLine(`Flotilla shard ${nodeId} waits on ${listener.address} (${capacity} experts fit)`);
    await stopSignal();
    await listener.close();
    await server.close();
    return 0;
  } finally {
    bank.close();
    await backend.close();
  }
}

/** (row, expert) pairs per second of one decode step; the servers measure on. */
async function measureSpeed(bank: ExpertBank, grid: ExpertGrid): Promise<number> {
  const place = { layer: grid.layers[0]!, expert: 0 };
  await bank.load(place);
  const pairs = { layer: place.layer, rows: new Float32Array(bank.width), rowOfPair: [0] };
  let bestMs = Infinity;
  for (let i = 0; i < SPEED_SAMPLES; i++) {
    const startMs = systemClock.nowMs();
    await bank.compute({ ...pairs, expertOfPair: [place.expert] });
    bestMs = Math.min(bestMs, systemClock.nowMs() - startMs);
  }
  bank.drop(place);
  return 1000 / Math.max(0.001, bestMs);
}

const SPEED_SAMPLES = 8;

function stopSignal(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => resolve());
  }
  return promise;
}
