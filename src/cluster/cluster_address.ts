/**
 * Addresses of nodes as people write them, and which of them may be used without protection.
 *
 *     HOST:PORT, [IPv6]:PORT     TCP, or TLS when certificates are configured
 *     unix:PATH                  Unix socket
 *     ws://… , wss://…           WebSocket, for hosts without TCP
 *     memory:NAME                inside this process
 */
import { OperatingError } from "@/errors.ts";

export type ClusterAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "websocket"; readonly url: URL }
  | { readonly kind: "memory"; readonly name: string };

/** Throws OperatingError for anything else. */
export function parseAddress(text: string): ClusterAddress {
  if (text.startsWith("memory:")) return { kind: "memory", name: text };
  if (text.startsWith("unix:") && text.length > 5) return { kind: "unix", path: text.slice(5) };
  if (/^wss?:\/\//.test(text) && URL.canParse(text)) {
    return { kind: "websocket", url: new URL(text) };
  }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) {
    const forms = "HOST:PORT, unix:PATH, ws://… or wss://…";
    throw new OperatingError("invalid_request", `Cannot use address "${text}": expected ${forms}`);
  }
  return { kind: "tcp", host: match[1] ?? match[2]!, port };
}

/** Whether a host name or address means this machine alone. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "").toLowerCase();
  return bare === "localhost" || bare === "::1" ||
    /^(::ffff:)?127(\.\d{1,3}){3}$/.test(bare);
}

/** Whether bytes to and from this address stay on the machine, or are encrypted anyway. */
export function isPrivate(address: ClusterAddress): boolean {
  switch (address.kind) {
    case "memory":
    case "unix":
      return true;
    case "websocket":
      return address.url.protocol === "wss:" || isLoopback(address.url.hostname);
    case "tcp":
      return isLoopback(address.host);
  }
}

/**
 * Refuses to open a port, or to dial, without secret and certificates when others could be on the
 * line. Throws OperatingError.
 */
export function requireProtection(
  text: string,
  protection: { secret: boolean; tls: boolean; allowPlaintext: boolean },
): void {
  const { secret, tls, allowPlaintext } = protection;
  if (secret || tls || allowPlaintext || isPrivate(parseAddress(text))) return;
  const message = `Cannot use ${text} without protection: give a cluster secret or certificates`;
  throw new OperatingError("invalid_request", message);
}
