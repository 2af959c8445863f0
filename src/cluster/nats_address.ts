/**
 * Where a NATS server is and which cluster is meant, as people write it:
 *
 *     nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT][,HOST[:PORT]…][/CLUSTER]
 *
 * `tls://` asks for TLS. Several servers are those of one NATS cluster.
 */
import { OperatingError } from "@/errors.ts";

export interface NatsAddress {
  /** HOST:PORT of each server. */
  readonly servers: readonly string[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly token: string | undefined;
  readonly tls: boolean;
  /** Name of the cluster in the path; undefined: one for these weights. */
  readonly cluster: string | undefined;
}

const PORT_DEFAULT = 4222;
const scheme = /^(nats|tls):\/\//;
/** Scheme, credentials, servers, cluster. */
const form = /^(nats|tls):\/\/(?:([^@/]+)@)?([^@/]+)(?:\/([A-Za-z0-9_-]{0,64}))?$/;
const server = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/;

/** Whether an address means NATS rather than a node. */
export function isNatsAddress(text: string): boolean {
  return scheme.test(text);
}

/** Throws OperatingError for anything else. */
export function parseNatsAddress(text: string): NatsAddress {
  const parts = form.exec(text.replaceAll(/,(nats|tls):\/\//g, ","));
  const hosts = (parts?.[3] ?? "").split(",").map((host) => server.exec(host));
  const secrets = parts?.[2]?.split(":").map(decoded) ?? [];
  if (!parts || hosts.includes(null) || secrets.includes(undefined) || secrets.length > 2) {
    // The address may hold a password.
    const expected = "nats://[USER:PASSWORD@]HOST:PORT,…/CLUSTER";
    const message = `Cannot use this NATS address: expected ${expected}`;
    throw new OperatingError("invalid_request", message);
  }
  const [first, password] = secrets;
  return {
    servers: hosts.map((host) => `${host![1]}:${host![2] ?? PORT_DEFAULT}`),
    user: password === undefined ? undefined : first,
    password,
    token: password === undefined ? first : undefined,
    tls: parts[1] === "tls",
    cluster: parts[4] || undefined,
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    return undefined;
  }
}
