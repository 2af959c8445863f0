/**
 * A node inside a front's own process, behind the same frames as any other: it holds all experts
 * and belongs to no plan. What connects it to the front is a network in memory.
 */
import type { Clock } from "@/clock.ts";
import type { Connection } from "./connection.ts";
import type { ExpertGrid } from "./expert_grid.ts";
import { type ExpertComputer, ExpertServer } from "./expert_server.ts";
import type { NodeIdentity } from "./handshake.ts";
import { Holdings } from "./holdings.ts";
import { MemoryNetwork } from "./memory_stream.ts";
import type { NodeId } from "./placement.ts";
import { ClusterTransport } from "./transport.ts";

/** Its name; no shard may have it. */
export const LOCAL_NODE: NodeId = "local";
const ADDRESS = "memory:local";

export interface LocalNodeOptions {
  readonly grid: ExpertGrid;
  readonly experts: ExpertComputer;
  /** The front's. */
  readonly identity: NodeIdentity;
  readonly clock: Clock;
  readonly failed?: (what: string, error: unknown) => void;
}

export class LocalNode {
  readonly #server: ExpertServer;

  private constructor(server: ExpertServer) {
    this.#server = server;
  }

  /** Begins to load everything, and connects to whoever `accept` belongs to. */
  static async start(
    options: LocalNodeOptions,
    accept: (connection: Connection) => void,
  ): Promise<LocalNode> {
    const { grid, clock, identity } = options;
    const holdings = new Holdings({
      node: LOCAL_NODE,
      incarnation: 1,
      grid,
      capacity: grid.size,
    });
    const server = new ExpertServer({
      ...options,
      holdings,
      member: { id: LOCAL_NODE, incarnation: 1, role: "shard", address: "", node: undefined },
    });
    const keep = new Set(Array.from({ length: grid.size }, (_, slot) => slot));
    const epochs = { epochMin: 0, epochMax: Number.MAX_SAFE_INTEGER };
    server.assign({ fence: 1, serial: 1, ...epochs, keep });
    const memory = new MemoryNetwork();
    const shared = { clock, memory };
    const ours = { ...identity, role: "shard", nodeId: LOCAL_NODE } as const;
    const here = new ClusterTransport({ ...shared, identity: () => identity });
    const there = new ClusterTransport({
      ...shared,
      identity: () => ours,
      load: () => server.load(),
    });
    await here.listen(ADDRESS, { accept });
    server.accept(await there.dial(ADDRESS));
    return new LocalNode(server);
  }

  async close(): Promise<void> {
    await this.#server.close();
  }
}
