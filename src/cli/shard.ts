/** `shard`: holds experts of a sparse model and computes them for servers. */
import { systemClock } from "@/clock.ts";
import { ExpertGrid } from "@/cluster/expert_grid.ts";
import { ExpertServer } from "@/cluster/expert_server.ts";
import { Holdings } from "@/cluster/holdings.ts";
import type { NodeIdentity } from "@/cluster/handshake.ts";
import { Dialer } from "@/cluster/dialer.ts";
import { capacityOf } from "@/cluster/placement.ts";
import type { Connection } from "@/cluster/connection.ts";
import type { Member, Membership } from "@/cluster/membership.ts";
import { settledBest } from "@/cluster/settled_best.ts";
import { ClusterTransport } from "@/cluster/transport.ts";
import { ExpertStore } from "@/model/expert_store.ts";
import { adapterObstacle } from "@/kernels/webgpu/device.ts";
import { usableDeviceBytes } from "@/kernels/webgpu/memory_trial.ts";
import { limits } from "@/limits.ts";
import { Logger, type LogLevel } from "@/telemetry/log.ts";
import { precisionLabel } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { backendFlags } from "./backend_flags.ts";
import {
  clusterIdentity,
  clusterProtection,
  nodeName,
  nodeNameFlag,
  numericClassOf,
  rendezvousOf,
} from "./cluster_flags.ts";
import { openNatsMembership } from "./cluster_nats.ts";
import { type Flags, UsageError } from "./flags.ts";
import { precisionFlags } from "./precision_flags.ts";
import { modelFolders } from "./serve.ts";
import { ShardExperts } from "./shard_experts.ts";
import { printLine } from "./terminal.ts";

const MIB = 1024 * 1024;
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

async function memoryFor(flags: Flags, need: number): Promise<number> {
  const mib = flags.number("expert-mib");
  if (mib !== undefined) return mib * MIB;
  if (flags.string("backend") === "webgpu" && await adapterObstacle(navigator.gpu) === undefined) {
    return await usableDeviceBytes(need + WORK_BYTES) - WORK_BYTES;
  }
  return Math.min(need, Math.floor(limits.expertMemoryShare * Deno.systemMemoryInfo().available));
}

/** What a shard computes with. */
interface Workshop {
  readonly grid: ExpertGrid;
  readonly store: ExpertStore;
  readonly experts: ShardExperts;
  /** Memory for experts. */
  readonly memoryBytes: number;
  /** Bytes of an expert. */
  readonly sizeOf: (slot: number) => number;
  readonly offers: ReadonlySet<number> | undefined;
}

async function openWorkshop(
  flags: Flags,
  { folder, log }: { folder: string; log: Logger },
): Promise<Workshop> {
  const openStore = () =>
    ExpertStore.open({
      folder: diskFolder(folder),
      synthetic: flags.on("synthetic"),
      ...precisionFlags(flags),
    });
  const store = await openStore();
  const grid = new ExpertGrid({ layers: store.layers, experts: store.moe.experts });
  const offers = offeredSlots(flags, grid);
  const { layerBytes } = store;
  const sizeOf = (slot: number) => layerBytes[grid.rowOf(slot)]!;
  const slots = offers ?? Array.from({ length: grid.size }, (_, slot) => slot);
  const need = [...slots].reduce((sum, slot) => sum + sizeOf(slot), 0);
  const memoryBytes = await memoryFor(flags, need);
  const backend = { memoryBytes: memoryBytes + WORK_BYTES, ...backendFlags(flags) };
  const experts = await ShardExperts.open({ backend, openStore, log });
  return { grid, store, experts, memoryBytes, sizeOf, offers };
}

/** Who this shard is and what it offers. */
async function describeShard(
  workshop: Workshop,
  flags: Flags,
  { folder, listen, log }: { folder: string; listen: string; log: Logger },
): Promise<{ identity: NodeIdentity; member: Member }> {
  const { grid, experts, store: { precision, layerBytes }, memoryBytes, offers } = workshop;
  const { backend } = experts;
  const expertBytes = Math.max(...layerBytes);
  const nodeId = nodeNameFlag(flags) ?? nodeName(`${Deno.hostname()}-${listen}`);
  const speed = await measureSpeed(experts, grid);
  const synthetic = flags.on("synthetic");
  const identity = await clusterIdentity({
    ...{ role: "shard", nodeId, folder, synthetic, backend, precision, log },
  });
  const { numericClass, weightHash } = identity;
  const sizes = { memoryBytes, expertBytes, layerBytes };
  const offered = { speed, ...sizes, numericClass, weightHash, offers };
  const member: Member = {
    id: nodeId,
    incarnation: Math.floor(systemClock.epochMs()),
    role: "shard",
    address: "",
    node: { id: nodeId, ...offered, draining: false },
  };
  return { identity, member };
}

/** What a shard says of itself at the time, and to whom it said so. */
class Presence {
  identity: NodeIdentity;
  member: Member;
  readonly #peers = new Set<Connection>();

  constructor({ identity, member }: { identity: NodeIdentity; member: Member }) {
    this.identity = identity;
    this.member = member;
  }

  /** Returns what to call when the connection ends. */
  meet(connection: Connection, ended?: () => void): () => void {
    this.#peers.add(connection);
    return () => {
      this.#peers.delete(connection);
      ended?.();
    };
  }

  /** It computes in another class from now on. */
  move(numericClass: string): Member {
    this.identity = { ...this.identity, numericClass };
    return this.member = { ...this.member, node: { ...this.member.node!, numericClass } };
  }

  /** Whoever is connected agreed to the old class: all shake hands anew. */
  leaveAll(): void {
    for (const peer of [...this.#peers]) peer.close();
  }
}

/** Listens and serves until a stop signal. */
async function serveShard(
  workshop: Workshop,
  flags: Flags,
  { folder, log }: { folder: string; log: Logger },
): Promise<void> {
  const { grid, store, experts, memoryBytes, sizeOf } = workshop;
  const listen = flags.string("listen") ?? "127.0.0.1:7070";
  const join = rendezvousOf("join", flags.string("join") ?? "");
  const presence = new Presence(await describeShard(workshop, flags, { folder, listen, log }));
  const { member } = presence;
  const { id: node, incarnation } = member;
  let lease: Membership | undefined;
  let address = "";
  const server = new ExpertServer({
    grid,
    holdings: new Holdings({ node, incarnation, grid, capacity: memoryBytes, sizeOf }),
    experts,
    member,
    clock: systemClock,
    failed: (what, error) => log.error(what, { error }),
    changed: (member) => lease?.update({ ...(presence.member = member), address }),
  });
  const accept = (connection: Connection, ended?: () => void) =>
    server.accept(connection, presence.meet(connection, ended));
  experts.onMove(() => {
    server.update(presence.move(numericClassOf(experts.backend, store.precision)));
    lease?.update({ ...presence.member, address });
    presence.leaveAll();
  });
  const transport = new ClusterTransport({
    clock: systemClock,
    identity: () => presence.identity,
    ...await clusterProtection(flags),
    load: () => server.load(),
  });
  const listener = await transport.listen(listen, {
    accept: (connection) => {
      log.info("server connected", { peer: connection.peer.nodeId });
      accept(connection);
    },
    refused: (error, peer) => {
      // Probes of health come and go without a word.
      const level = error.failure === "closed" ? "debug" : "warn";
      log[level]("connection refused", { peer, reason: error.message });
    },
  });
  address = flags.string("advertise") ?? advertised(listener.address);
  const dialer = dialFronts(accept, { transport, addresses: join.addresses, log });
  printLine(
    `Flotilla shard ${node} waits on ${listener.address} (${capacityOf(member.node!)} experts fit)`,
  );
  const stopped = stopSignal();
  if (join.nats) {
    const format = precisionLabel(store.precision);
    const { identity } = presence;
    lease = await openNatsMembership(join.nats, { identity, format, grid, log });
    keepLease(lease, { server, member: { ...presence.member, address } });
    log.info("found through NATS", { node, address });
  }
  await stopped;
  await leave(server, { flags, log });
  await lease?.[Symbol.asyncDispose]();
  dialer.close();
  await listener.close();
  await server.close();
}

/** Connects to servers that listen for shards, and again whenever that ends. */
function dialFronts(
  accept: (connection: Connection, ended: () => void) => void,
  options: { transport: ClusterTransport; addresses: readonly string[]; log: Logger },
): Dialer {
  const { transport, addresses, log } = options;
  const dialer = new Dialer({
    transport,
    connected(connection, address, ended) {
      log.info("joined a server", { address, peer: connection.peer.nodeId });
      accept(connection, ended);
      return "taken";
    },
    failed: (address, reason) => log.warn("no server answers", { address, reason }),
  });
  dialer.follow(addresses);
  return dialer;
}

/** Joins, and tells the server when the lease begins anew: perhaps in a store without memory. */
function keepLease(
  lease: Membership,
  { server, member }: { server: ExpertServer; member: Member },
): void {
  let seen = 0;
  lease.watch(() => {
    const fence = lease.view.members.get(member.id)?.fence ?? 0;
    if (fence > 0 && fence !== seen) server.rejoined();
    seen = fence;
  });
  lease.join(member);
}

/** Where others reach a listener: a wildcard means this host by its name. */
function advertised(address: string): string {
  const wildcard = /^(?:0\.0\.0\.0|\[::\]):(\d+)$/.exec(address);
  return wildcard ? `${Deno.hostname()}:${wildcard[1]}` : address;
}

/** Gives the experts away before the process ends; a second signal ends it at once. */
async function leave(
  server: ExpertServer,
  { flags, log }: { flags: Flags; log: Logger },
): Promise<void> {
  const seconds = flags.number("drain-seconds");
  const timeoutMs = seconds === undefined ? limits.shardDrainMs : 1000 * seconds;
  log.info("draining", { timeoutMs });
  const isEmpty = await Promise.race([server.drained(timeoutMs), stopSignal().then(() => false)]);
  if (isEmpty) log.info("drained");
  else log.warn("leaving with experts that no other shard took");
}

export async function shard(flags: Flags): Promise<number> {
  const [model, another] = modelFolders(flags);
  if (another) throw new UsageError("--model is given twice, expected one");
  const log = new Logger({
    level: (flags.string("log") ?? "info") as LogLevel,
    format: Deno.stderr.isTerminal() ? "pretty" : "json",
  });
  const where = { folder: model!.folder, log };
  const workshop = await openWorkshop(flags, where);
  try {
    await serveShard(workshop, flags, where);
    return 0;
  } finally {
    workshop.store.close();
    await workshop.experts.close();
  }
}

/**
 * (row, expert) pairs per second of one decode step, at best: kernels get faster while they are warmed
 * up, and other programs take their turns. The servers measure on.
 */
async function measureSpeed(bank: ShardExperts, grid: ExpertGrid): Promise<number> {
  const place = { layer: grid.layers[0]!, expert: 0 };
  await bank.load(place);
  const pairs = { layer: place.layer, rows: new Float32Array(bank.width), rowOfPair: [0] };
  const out = new Float32Array(bank.width);
  const run = () => {
    const pair = { ...pairs, expertOfPair: [place.expert] };
    return bank.computeHere(pair, out) ? undefined : bank.compute(pair, out);
  };
  const bestMs = await settledBest({ run, nowMs: () => systemClock.nowMs() });
  bank.drop(place);
  return 1000 / Math.max(0.001, bestMs);
}

function stopSignal(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => resolve());
  }
  return promise;
}
