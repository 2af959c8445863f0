/** For tests: connections between two nodes of a memory network, with time under control. */
import { type Connection, type ConnectionOptions, openConnection } from "./connection.ts";
import type { ConnectionEnd, ReceivedFrame } from "./connection.ts";
import type { NodeIdentity } from "./handshake.ts";
import { type Carry, MemoryNetwork } from "./memory_stream.ts";

export const SECRET_TEXT = "a secret of the tests that is long enough";

export function identityOf(role: NodeIdentity["role"], change: Partial<NodeIdentity> = {}) {
  return {
    nodeId: `${role}-1`,
    cluster: "test",
    role,
    numericClass: "reference-1",
    weightHash: "sha256:00",
    ...change,
  };
}

/** Time that moves by hand and drives all timers of the connections that use it. */
export class HandClock {
  #nowMs = 1000;
  readonly #timers = new Set<{ ms: number; nextMs: number; run: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }

  epochMs(): number {
    return this.#nowMs;
  }

  readonly every = (ms: number, run: () => void): () => void => {
    const timer = { ms, nextMs: this.#nowMs + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  get timerCount(): number {
    return this.#timers.size;
  }

  /** Moves on in steps of 20 ms; what the timers send arrives before the next step. */
  async advance(ms: number): Promise<void> {
    for (const endMs = this.#nowMs + ms; this.#nowMs < endMs;) {
      this.#nowMs += 20;
      for (const timer of [...this.#timers]) {
        if (timer.nextMs > this.#nowMs) continue;
        timer.nextMs += timer.ms;
        timer.run();
      }
      await settle();
    }
  }

  /** The process stands still: time passes, and each timer runs once afterwards. */
  async freeze(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const timer of [...this.#timers]) {
      timer.nextMs = this.#nowMs + timer.ms;
      timer.run();
    }
    await settle();
  }
}

/** Lets everything that is under way in memory arrive. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

export type PeerOptions = Partial<ConnectionOptions>;

export interface Peers {
  readonly front: Connection;
  readonly shard: Connection;
}

/** Both ends as promises, so that each side's failure can be looked at. */
export function meet(
  options: {
    clock: HandClock;
    front?: PeerOptions;
    shard?: PeerOptions;
    carry?: Carry;
  },
): { front: Promise<Connection>; shard: Promise<Connection> } {
  const { clock, front = {}, shard = {}, carry } = options;
  const network = new MemoryNetwork(carry ? { carry } : {});
  const shared = { clock, every: clock.every, frameBytesMax: 1 << 16, windowBytes: 1 << 17 };
  const nonce = () => crypto.getRandomValues(new Uint8Array(32));
  let accepted: Promise<Connection> | undefined;
  network.listen("memory", (stream) => {
    const sided = { side: "listener" as const, identity: identityOf("shard"), nonce: nonce() };
    accepted = openConnection(stream, { ...shared, ...sided, ...shard });
  });
  const sided = { side: "dialer" as const, identity: identityOf("front"), nonce: nonce() };
  const dialed = openConnection(network.dial("memory"), { ...shared, ...sided, ...front });
  return { front: dialed, shard: accepted! };
}

export async function connect(options: Parameters<typeof meet>[0]): Promise<Peers> {
  const { front, shard } = meet(options);
  return { front: await front, shard: await shard };
}

/** Collects what a connection receives and how it ends. */
export function record(connection: Connection) {
  const frames: ReceivedFrame[] = [];
  const ends: ConnectionEnd[] = [];
  let writableCount = 0;
  connection.attach({
    frame: (frame) => void frames.push(frame),
    writable: () => void writableCount++,
    closed: (end) => void ends.push(end),
  });
  return { frames, ends, writableCount: () => writableCount };
}
