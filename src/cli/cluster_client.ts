/** A front's cluster routes over HTTP, as the command line asks them. Prints nothing. */
import type { ClusterStatusBody } from "@/api/cluster.ts";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { readKeys } from "./api_keys.ts";
import { type Flags, UsageError } from "./flags.ts";

const URL_DEFAULT = "http://127.0.0.1:8080";
const WAIT_SECONDS_DEFAULT = 120;
const ANSWER_MS_MAX = 10_000;
const POLL_MS = 300;

export class ClusterClient {
  readonly #url: string;
  readonly #key: string | undefined;

  private constructor(url: string, key: string | undefined) {
    this.#url = url;
    this.#key = key;
  }

  /** Reads `--url` and `--api-key-file`. */
  static async open(flags: Flags): Promise<ClusterClient> {
    const url = flags.string("url") ?? URL_DEFAULT;
    if (!URL.canParse(url) || !/^https?:/.test(url)) {
      throw new UsageError(`--url is "${url}", expected http://HOST:PORT`);
    }
    const keys = await readKeys(flags.string("api-key-file"));
    return new ClusterClient(url.replace(/\/+$/, ""), keys?.[0]);
  }

  async status(): Promise<ClusterStatusBody> {
    return await this.#ask("GET", "/cluster/status") as ClusterStatusBody;
  }

  async drain(node: string, draining: boolean): Promise<void> {
    await this.#ask("POST", "/cluster/drain", { node, draining });
  }

  async rebalance(): Promise<void> {
    await this.#ask("POST", "/cluster/rebalance");
  }

  /** The status again and again, until `--wait-seconds` are over. */
  async *watch(flags: Flags): AsyncGenerator<ClusterStatusBody> {
    const waitMs = 1000 * (flags.number("wait-seconds") ?? WAIT_SECONDS_DEFAULT);
    const endMs = systemClock.nowMs() + waitMs;
    do {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      yield await this.status();
    } while (systemClock.nowMs() < endMs);
  }

  async #ask(method: string, path: string, body?: unknown): Promise<unknown> {
    const headers = new Headers({ "content-type": "application/json" });
    if (this.#key !== undefined) headers.set("authorization", `Bearer ${this.#key}`);
    const request = {
      ...{ method, headers, signal: AbortSignal.timeout(ANSWER_MS_MAX) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    let response: Response;
    let text: string;
    try {
      response = await fetch(`${this.#url}${path}`, request);
      text = await response.text();
    } catch (cause) {
      const why = cause instanceof Error ? reasonOf(cause) : String(cause);
      throw new OperatingError("unavailable", `Cannot reach ${this.#url}: ${why}`, { cause });
    }
    return this.#read(text, response.status);
  }

  #read(text: string, status: number): unknown {
    let value;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      const message = `${this.#url} is no Flotilla server: it answers ${status} and no JSON`;
      throw new OperatingError("unavailable", message, { cause });
    }
    if (status < 300) return value;
    const message = value?.error?.message ?? `status ${status}`;
    throw new OperatingError("unavailable", `${this.#url} refuses: ${message}`);
  }
}

/** `fetch` says only that it failed; what failed is the cause. */
function reasonOf({ message, cause }: Error): string {
  return cause instanceof Error && cause.message !== "" ? cause.message : message;
}
