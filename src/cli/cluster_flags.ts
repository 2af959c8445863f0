/** The flags of a cluster, and what both its roles say of a model: identity and secret. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ClusterSecret } from "@/cluster/cluster_secret.ts";
import type { NodeIdentity } from "@/cluster/handshake.ts";
import type { Backend } from "@/kernels/backend.ts";
import type { Logger } from "@/telemetry/log.ts";
import { type Precision, precisionLabel } from "@/weights/precision.ts";
import type { Flags } from "./flags.ts";
import { modelIdentity } from "./model_identity.ts";

/** What `--cluster` and its companions say. */
export interface ClusterFlags {
  readonly addresses: readonly string[];
  readonly replicas: number;
  /** Whether experts without an owner are read from disk. */
  readonly fallback: boolean;
  readonly secret: ClusterSecret | undefined;
  readonly allowPlaintext: boolean;
}

/** Undefined without `--cluster`. */
export async function clusterFlags(flags: Flags): Promise<ClusterFlags | undefined> {
  const list = flags.string("cluster");
  if (list === undefined) return undefined;
  return {
    addresses: list.split(",").filter(Boolean),
    replicas: flags.number("replicas") ?? 1,
    fallback: flags.string("local-experts") !== "none",
    secret: await clusterSecret(flags),
    allowPlaintext: flags.on("allow-plaintext"),
  };
}

export async function clusterSecret(flags: Flags): Promise<ClusterSecret | undefined> {
  const path = flags.string("secret-file");
  return path === undefined ? undefined : ClusterSecret.fromText(await Deno.readTextFile(path));
}

/** The name of all clusters: a cluster is known by its secret and its weights. */
const CLUSTER = "flotilla";

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
  const numericClass = `${backend.description.numericClass}/${precisionLabel(precision)}`;
  return { role, nodeId, cluster: CLUSTER, numericClass, weightHash: `sha256:${drawn}` };
}

/** Where hashes of large files are remembered between starts. */
async function hashMemory(log: Logger): Promise<string> {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? ".", ".cache");
  const folder = join(cache, "flotilla");
  try {
    await Deno.mkdir(folder, { recursive: true });
  } catch (error) {
    log.warn("cannot remember the model's hash: the next start computes it again", { error });
  }
  return join(folder, "identities.json");
}

/** A name that stores, metrics and files accept, from any text. */
export function nodeName(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]+/g, "-").slice(-64);
}
