/** The flags of a cluster, and what both its roles say of a model: identity and secret. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ClusterSecret } from "@/cluster/cluster_secret.ts";
import type { NodeIdentity } from "@/cluster/handshake.ts";
import { isNatsAddress, type NatsAddress, parseNatsAddress } from "@/cluster/nats_address.ts";
import type { TlsFiles } from "@/cluster/socket_stream.ts";
import { OperatingError } from "@/errors.ts";
import type { Backend } from "@/kernels/backend.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Tracer } from "@/telemetry/trace.ts";
import { type Precision, precisionLabel } from "@/weights/precision.ts";
import { cacheFolder } from "./cache_folder.ts";
import { type Flags, UsageError } from "./flags.ts";
import { modelIdentity } from "./model_identity.ts";

/** Where the other side of a cluster is: nodes at addresses, or whoever has a lease in NATS. */
export interface Rendezvous {
  readonly addresses: readonly string[];
  readonly nats: NatsAddress | undefined;
}

/** What protects the connections of a cluster. */
export interface ClusterProtection {
  readonly secret?: ClusterSecret | undefined;
  readonly tls?: TlsFiles | undefined;
  readonly allowPlaintext: boolean;
}

/** What `--cluster` and its companions say. */
export interface ClusterFlags extends Rendezvous, ClusterProtection {
  /** Name of this server in the cluster; by default that of the host and process. */
  readonly name?: string | undefined;
  /** Where shards may come by themselves. */
  readonly listen?: string | undefined;
  readonly replicas: number;
  /** Further copies of each layer's busiest experts, where memory is left; by default some. */
  readonly spareCopies?: number | undefined;
  /** Experts of this process: none, those that no shard answers for, or all. */
  readonly localExperts: "none" | "some" | "all";
  /** "bf16": shorter rows and results that may change tokens. By default exact. */
  readonly wire?: "exact" | "bf16" | undefined;
  /** Shards of other numeric classes are taken: equal tokens are then not promised. */
  readonly mixedClasses?: boolean | undefined;
  /** Takes a span for every layer's call; by default those of OpenTelemetry, if it is on. */
  readonly tracer?: Tracer | undefined;
}

/** Undefined without `--cluster` and `--cluster-listen`. */
export async function clusterFlags(flags: Flags): Promise<ClusterFlags | undefined> {
  const [list, listen] = [flags.string("cluster"), flags.string("cluster-listen")];
  if (list === undefined && listen === undefined) return undefined;
  const rendezvous = rendezvousOf("cluster", list ?? "");
  if (rendezvous.nats && listen !== undefined) {
    throw new UsageError("--cluster-listen is for shards that --join this server, not for NATS");
  }
  const wire = flags.string("wire") as ClusterFlags["wire"];
  const mixedClasses = flags.on("mixed-classes");
  for (const [flag, isOn] of [["wire bf16", wire === "bf16"], ["mixed-classes", mixedClasses]]) {
    if (isOn && flags.on("exact")) {
      throw new UsageError(`--exact and --${flag} exclude each other`);
    }
  }
  return {
    ...rendezvous,
    wire,
    mixedClasses,
    ...await clusterProtection(flags),
    listen,
    name: nodeNameFlag(flags),
    replicas: flags.number("replicas") ?? 1,
    spareCopies: flags.number("spare-copies"),
    localExperts: (flags.string("local-experts") ?? "some") as ClusterFlags["localExperts"],
  };
}

/** Reads a comma-separated list of addresses, or one NATS address. Throws UsageError for a mixture. */
export function rendezvousOf(flag: string, text: string): Rendezvous {
  if (isNatsAddress(text)) return { addresses: [], nats: parseNatsAddress(text) };
  const addresses = text.split(",").filter(Boolean);
  if (addresses.some(isNatsAddress)) {
    throw new UsageError(`--${flag} names nodes and NATS servers, expected one kind`);
  }
  return { addresses, nats: undefined };
}

/** Secret and certificates. Throws OperatingError for files that cannot be used. */
export async function clusterProtection(flags: Flags): Promise<ClusterProtection> {
  const [secret, certificate, key, authority] = await Promise.all(
    ["secret-file", "cluster-cert", "cluster-key", "cluster-ca"].map(async (flag) => {
      const path = flags.string(flag);
      return path === undefined ? undefined : await textOf(flag, path);
    }),
  );
  const pems = [certificate, key, authority].filter((text) => text !== undefined);
  if (pems.length % 3 !== 0) {
    throw new UsageError("--cluster-cert, --cluster-key and --cluster-ca go together");
  }
  return {
    secret: secret === undefined ? undefined : ClusterSecret.fromText(secret),
    tls: pems.length === 0
      ? undefined
      : { certificate: certificate!, key: key!, authority: authority! },
    allowPlaintext: flags.on("allow-plaintext"),
  };
}

async function textOf(flag: string, path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `Cannot read --${flag} ${path}: ${reason}`;
    throw new OperatingError("invalid_request", message, { cause });
  }
}

/** The name of all clusters: a cluster is known by its secret and its weights. */
const CLUSTER = "flotilla";

/** What results of a node depend on beside weights and rows. */
export function numericClassOf(backend: Backend, precision: Precision): string {
  return `${backend.description.numericClass}/${precisionLabel(precision)}`;
}

/** What a node shows in its handshakes; hashing large files takes a while the first time. */
export async function clusterIdentity(args: {
  role: "front" | "shard";
  nodeId: string;
  folder: string;
  synthetic: boolean;
  backend: Backend;
  precision: Precision;
  log: Logger;
}): Promise<NodeIdentity> {
  const { role, nodeId, folder, synthetic, backend, precision, log } = args;
  const memoryPath = await hashMemory(log);
  const files = await modelIdentity(folder, { memoryPath, log });
  const drawn = synthetic ? createHash("sha256").update(`${files} drawn`).digest("hex") : files;
  const numericClass = numericClassOf(backend, precision);
  return { role, nodeId, cluster: CLUSTER, numericClass, weightHash: `sha256:${drawn}` };
}

/** Where hashes of large files are remembered between starts. */
async function hashMemory(log: Logger): Promise<string> {
  const folder = cacheFolder();
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    log.warn("cannot remember the model's hash: the next start computes it again", { error });
  }
  return join(folder, "identities.json");
}

/** What `--name` says. Throws UsageError for a name that stores do not take. */
export function nodeNameFlag(flags: Flags): string | undefined {
  const name = flags.string("name");
  if (name === undefined || (name !== "" && nodeName(name) === name)) return name;
  throw new UsageError(`--name is "${name}", expected up to 64 letters, digits, - and _`);
}

/** A name that stores, metrics and files accept, from any text. */
export function nodeName(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]+/g, "-").slice(-64);
}
