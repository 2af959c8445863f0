/**
 * Owns one HTTP GET for media under the rules against request forgery: allow-listed hosts only, every
 * resolved address checked, no credentials, redirects followed by hand with the same checks, bytes
 * and time capped.
 *
 * DNS rebinding: the connection goes to the very addresses that were checked (the socket's name
 * look-up is replaced by the checked answer), so a second, different DNS answer has no effect. TLS
 * still verifies the certificate for the host name. Not covered: a public address that forwards to a
 * private one, and proxies of the environment, which are not used.
 */
import { get as getHttp, type IncomingMessage } from "node:http";
import { get as getHttps } from "node:https";
import type { LookupFunction } from "node:net";
import { OperatingError } from "@/errors.ts";
import { isAddress, isPublicAddress } from "./address.ts";
import type { AllowedHosts } from "./allowed_hosts.ts";

/** Addresses of a host name, IPv4 and IPv6. Rejects or returns none when there are none. */
export type ResolveHost = (hostname: string) => Promise<string[]>;

export interface FetchRules {
  readonly allowedHosts: AllowedHosts;
  readonly resolve: ResolveHost;
  readonly redirectsMax: number;
  readonly bytesMax: number;
  readonly timeoutMs: number;
}

/** Fetches `url` whole. Rejects with `media_forbidden`, `media_unreachable`, `payload_too_large`. */
export async function fetchMedia(
  url: string,
  rules: FetchRules,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), rules.timeoutMs);
  const both = signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, signal]);
  try {
    return await followRedirects(parseUrl(url), rules, both);
  } catch (error) {
    if (signal?.aborted === true) throw new OperatingError("cancelled", "Fetching was cancelled");
    if (deadline.signal.aborted) {
      throw unreachable(`it takes longer than ${rules.timeoutMs} ms`, error);
    }
    if (error instanceof OperatingError) throw error;
    throw unreachable("the connection failed", error);
  } finally {
    clearTimeout(timer);
  }
}

async function followRedirects(
  first: URL,
  rules: FetchRules,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let url = first;
  for (let hop = 0; hop <= rules.redirectsMax; hop++) {
    const addresses = await untilAborted(checkedAddresses(url, rules), signal);
    const response = await request(url, addresses, signal);
    const status = response.statusCode ?? 0;
    if (status === 200) return await readBody(response, rules.bytesMax);
    response.destroy();
    const location = response.headers.location;
    if (status < 300 || status > 399 || location === undefined) {
      throw unreachable(`${url.host} answered status ${status}`);
    }
    url = parseUrl(location, url);
  }
  throw unreachable(`more than ${rules.redirectsMax} redirects`);
}

function parseUrl(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (url === null) throw new OperatingError("invalid_media", "Cannot fetch media: not a URL");
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw forbidden(`scheme "${url.protocol.slice(0, 20)}" is not allowed`);
  }
  if (url.username !== "" || url.password !== "") {
    throw forbidden("URLs with credentials are not allowed");
  }
  return url;
}

/** Addresses to connect to. Refuses the whole host when one of them is not allowed. */
async function checkedAddresses(url: URL, rules: FetchRules): Promise<string[]> {
  const verdict = rules.allowedHosts.verdict(url);
  if (verdict === "refused") {
    throw forbidden(
      rules.allowedHosts.isEmpty
        ? "this server allows no hosts, send the picture as a data: URL"
        : `host "${url.host}" is not on the list of allowed hosts`,
    );
  }
  const literal = url.hostname.replace(/^\[|\]$/g, "");
  const addresses = isAddress(literal) ? [literal] : await resolveHost(url.hostname, rules.resolve);
  // One bad address is enough: the name may be attacker-controlled.
  if (verdict !== "any_address" && !addresses.every(isPublicAddress)) {
    throw forbidden(`host "${url.host}" has an address that is not public`);
  }
  return addresses;
}

async function resolveHost(hostname: string, resolve: ResolveHost): Promise<string[]> {
  let addresses: string[];
  try {
    addresses = await resolve(hostname);
  } catch (error) {
    throw unreachable(`host "${hostname}" has no address`, error);
  }
  if (addresses.length === 0) throw unreachable(`host "${hostname}" has no address`);
  return addresses;
}

/** Sends the request to one of `addresses`; resolves with the headers received. */
function request(
  url: URL,
  addresses: readonly string[],
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const found = addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  const lookup: LookupFunction = (_hostname, options, callback) => {
    if (options.all === true) callback(null, found);
    else callback(null, found[0]!.address, found[0]!.family);
  };
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const get = url.protocol === "https:" ? getHttps : getHttp;
  const headers = { accept: "image/*,*/*;q=0.1", "accept-encoding": "identity" };
  // A fresh connection each time: a pooled one would be to an address checked earlier.
  const sent = get(url, { agent: false, lookup, signal, headers }, resolve);
  sent.on("error", reject);
  return promise;
}

async function readBody(response: IncomingMessage, bytesMax: number): Promise<Uint8Array> {
  const declared = Number(response.headers["content-length"] ?? 0);
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    if (declared > bytesMax) throw tooLarge(declared, bytesMax);
    for await (const part of response as AsyncIterable<Uint8Array>) {
      length += part.length;
      if (length > bytesMax) throw tooLarge(length, bytesMax);
      parts.push(part);
    }
  } finally {
    response.destroy();
  }
  if (length < declared) throw unreachable(`the answer ended after ${length} of ${declared} bytes`);
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** Name resolution cannot be cancelled, so its answer is given up instead. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const abort = () => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  return promise;
}

function forbidden(reason: string): OperatingError {
  return new OperatingError("media_forbidden", `Cannot fetch media: ${reason}`);
}

function unreachable(reason: string, cause?: unknown): OperatingError {
  const detail = cause === undefined ? undefined : String(cause);
  return new OperatingError("media_unreachable", `Cannot fetch media: ${reason}`, {
    cause,
    detail,
  });
}

function tooLarge(length: number, bytesMax: number): OperatingError {
  const message = `Cannot fetch media: ${length} bytes exceed ${bytesMax}`;
  return new OperatingError("payload_too_large", message);
}
