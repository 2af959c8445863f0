/**
 * Owns the way from a media URL of a request to its bytes: `data:` URLs in place, `http(s):` under
 * the rules of `fetch.ts`. Does not look into the bytes: the codec tells what they are.
 */
import { lookup } from "node:dns/promises";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { AllowedHosts } from "./allowed_hosts.ts";
import { decodeDataUrl, isDataUrl } from "./data_url.ts";
import { fetchMedia, type FetchRules, type ResolveHost } from "./fetch.ts";

export interface MediaLoaderOptions {
  /** Entries as in `allowed_hosts.ts`; none means that nothing is fetched. */
  readonly allowedHosts: readonly string[];
  readonly fetchTimeoutMs?: number;
  readonly bytesMax?: number;
  /** Replaces the system's name resolution. */
  readonly resolve?: ResolveHost;
}

/** Loads the bytes that URLs of a request stand for. */
export class MediaLoader {
  readonly #rules: FetchRules;

  /** Throws `RangeError` for an allow-list entry of a wrong form. */
  constructor(options: MediaLoaderOptions) {
    this.#rules = {
      allowedHosts: new AllowedHosts(options.allowedHosts),
      resolve: options.resolve ?? resolveBySystem,
      redirectsMax: limits.fetchRedirectsMax,
      bytesMax: options.bytesMax ?? limits.imageBytesMax,
      timeoutMs: options.fetchTimeoutMs ?? limits.fetchTimeoutMs,
    };
  }

  /**
   * Bytes behind `url`. Rejects with `OperatingError` naming `field`: `invalid_media`,
   * `media_forbidden`, `media_unreachable`, `payload_too_large` or `cancelled`.
   */
  async load(
    url: string,
    options: { readonly signal?: AbortSignal | undefined; readonly field: string },
  ): Promise<Uint8Array> {
    try {
      if (isDataUrl(url)) return decodeDataUrl(url, this.#rules.bytesMax);
      return await fetchMedia(url, this.#rules, options.signal);
    } catch (error) {
      if (!(error instanceof OperatingError)) throw error;
      const { code, message, detail } = error;
      throw new OperatingError(code, message, { field: options.field, detail, cause: error });
    }
  }
}

async function resolveBySystem(hostname: string): Promise<string[]> {
  const found = await lookup(hostname, { all: true });
  return found.map(({ address }) => address);
}
