/**
 * State of the page: the cluster's status as last heard, what was heard before it, and the orders that
 * a visitor gives. One immutable state object per change. Knows the API; draws nothing.
 */
import type { ClusterStatusBody, ExpertMapBody } from "@/api/cluster.ts";

export type LayerMapBody = ExpertMapBody["layers"][number];

export interface WatchState {
  /** "locked": the server wants an API key; "alone": it has no cluster. */
  readonly server: "connecting" | "live" | "locked" | "alone" | "offline";
  readonly apiKey: string;
  readonly status: ClusterStatusBody | undefined;
  /** Heartbeats' round trips of each node, oldest first, in milliseconds. */
  readonly heartbeats: ReadonlyMap<string, readonly number[]>;
  /** The layer that the map shows; undefined before the first status. */
  readonly layer: number | undefined;
  readonly map: ExpertMapBody | undefined;
  /** What went wrong last, or what was ordered. */
  readonly notice: string | undefined;
}

export interface WatchOptions {
  readonly fetch: typeof fetch;
  readonly apiKey: string;
}

/** Heartbeats that are remembered of each node. */
const HEARTBEATS_KEPT = 60;

/** An answer that is no success, in the server's own words. */
class RefusedError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class ClusterWatch {
  readonly #fetch: typeof fetch;
  readonly #listeners = new Set<() => void>();
  #state: WatchState;
  #asking: Promise<void> | undefined;
  #isStale = false;

  constructor({ fetch, apiKey }: WatchOptions) {
    this.#fetch = fetch;
    this.#state = {
      ...{ server: "connecting", apiKey, status: undefined, heartbeats: new Map() },
      ...{ layer: undefined, map: undefined, notice: undefined },
    };
  }

  readonly state = (): WatchState => this.#state;

  readonly subscribe = (listener: () => void): () => void => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  setApiKey(apiKey: string): void {
    this.#change({ apiKey, notice: undefined });
    void this.refresh();
  }

  showLayer(layer: number): void {
    this.#change({ layer });
    void this.refresh();
  }

  /** Asks for status and map, one question at a time. Never rejects: the state tells. */
  refresh(): Promise<void> {
    // An answer that is under way may not know of the newest order yet.
    this.#isStale = true;
    return this.#asking ??= this.#askWhileStale();
  }

  async #askWhileStale(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false;
      await this.#askAll();
    }
    this.#asking = undefined;
  }

  async #askAll(): Promise<void> {
    try {
      const status = await this.#ask("/cluster/status") as ClusterStatusBody;
      const layer = this.#state.layer ?? status.layers[0]?.layer;
      const heartbeats = withHeartbeats(this.#state.heartbeats, status);
      this.#change({ server: "live", status, layer, heartbeats });
      const map = await this.#ask(`/cluster/experts?layer=${layer}`) as ExpertMapBody;
      this.#change({ map });
    } catch (error) {
      this.#failed(error);
    }
  }

  async drain(node: string, draining: boolean): Promise<void> {
    const said = draining ? `${node} gives its experts away` : `${node} takes experts again`;
    await this.#order("/cluster/drain", { node, draining }, said);
  }

  async rebalance(): Promise<void> {
    await this.#order("/cluster/rebalance", undefined, "The cluster is planned anew");
  }

  async #order(path: string, body: unknown, said: string): Promise<void> {
    try {
      const sent = body === undefined ? {} : { body: JSON.stringify(body) };
      await this.#ask(path, { method: "POST", ...sent });
      this.#change({ notice: said });
    } catch (error) {
      this.#failed(error);
    }
    await this.refresh();
  }

  #failed(error: unknown): void {
    if (!(error instanceof RefusedError)) return this.#change({ server: "offline" });
    const { status, message } = error;
    if (status === 401) this.#change({ server: "locked" });
    else if (status === 404 && this.#state.status === undefined) this.#change({ server: "alone" });
    else this.#change({ notice: message });
  }

  async #ask(path: string, init: RequestInit = {}): Promise<unknown> {
    const headers = new Headers({ "Content-Type": "application/json" });
    const { apiKey } = this.#state;
    if (apiKey !== "") headers.set("Authorization", `Bearer ${apiKey}`);
    const response = await this.#fetch(path, { ...init, headers });
    const body = await response.json();
    if (response.ok) return body;
    throw new RefusedError(response.status, String(body?.error?.message ?? response.status));
  }

  #change(patch: Partial<WatchState>): void {
    this.#state = { ...this.#state, ...patch };
    for (const listener of this.#listeners) listener();
  }
}

/** Adds the newest round trips; nodes that left are forgotten. */
function withHeartbeats(
  before: WatchState["heartbeats"],
  { nodes }: ClusterStatusBody,
): Map<string, readonly number[]> {
  return new Map(nodes.map(({ id, heartbeat_ms: ms }) => {
    const kept = before.get(id) ?? [];
    return [id, ms === null ? kept : [...kept, ms].slice(-HEARTBEATS_KEPT)];
  }));
}
