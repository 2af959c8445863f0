/**
 * Owns the operator's list of hosts that media may be fetched from. Entries:
 *
 * - `images.example.com`: that host on the scheme's default port, at public addresses.
 * - `*.example.com`: every host below example.com, likewise.
 * - `127.0.0.1:8000`, `store.internal:9000`, `[::1]:8000`: that host and port at any address, also
 *   a private one. Naming the port says that the operator means this very service.
 */

interface AllowedHost {
  /** Lower case, IPv6 in brackets, as `URL.hostname` has it. */
  readonly hostname: string;
  readonly anySubdomain: boolean;
  readonly port: string | undefined;
}

/** What the list says about a URL. */
export type HostVerdict = "refused" | "public_addresses_only" | "any_address";

/** A parsed list. Throws `RangeError` for an entry of another form. */
export class AllowedHosts {
  readonly #entries: readonly AllowedHost[];

  constructor(entries: readonly string[]) {
    this.#entries = entries.map(parseEntry);
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  verdict(url: URL): HostVerdict {
    const port = url.port === "" ? defaultPort(url) : url.port;
    const matching = this.#entries.filter((entry) => matchesHost(entry, url.hostname));
    if (matching.some((entry) => entry.port === port)) return "any_address";
    const isDefaultPort = port === defaultPort(url);
    return isDefaultPort && matching.some((entry) => entry.port === undefined)
      ? "public_addresses_only"
      : "refused";
  }
}

function defaultPort(url: URL): string {
  return url.protocol === "https:" ? "443" : "80";
}

function matchesHost(entry: AllowedHost, hostname: string): boolean {
  return entry.anySubdomain ? hostname.endsWith(`.${entry.hostname}`) : hostname === entry.hostname;
}

function parseEntry(text: string): AllowedHost {
  const match = /^(\*\.)?([^\s/@:*[\]]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/i.exec(text.trim());
  const [, wildcard, host = "", port] = match ?? [];
  // The URL parser lower-cases, maps to punycode and normalises addresses, as it does for requests.
  const url = URL.parse(`http://${host}/`);
  const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
  if (match === null || url === null || !isPort || (wildcard !== undefined && port !== undefined)) {
    throw new RangeError(`Invalid allowed media host "${text}": use host, *.host or host:port`);
  }
  return {
    hostname: url.hostname,
    anySubdomain: wildcard !== undefined,
    port: port === undefined ? undefined : String(Number(port)),
  };
}
