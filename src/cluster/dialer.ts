/**
 * Keeps one connection to each of some addresses: dials until somebody answers, and again when the
 * connection ends, waiting longer each time. What a connection is for is its owner's business.
 */
import { OperatingError } from "@/errors.ts";
import type { Connection } from "./connection.ts";
import type { Transport } from "./transport.ts";

export interface DialerOptions {
  readonly transport: Pick<Transport, "dial">;
  /**
   * Takes a connection, attaches to it and calls `ended` once when it is over; "later" asks to dial
   * again after the longest wait: the connection was of no use and is closed.
   */
  readonly connected: (
    connection: Connection,
    address: string,
    ended: () => void,
  ) => "taken" | "later";
  /** Nobody answers, for a new reason. */
  readonly failed?: ((address: string, reason: string) => void) | undefined;
}

/** An address that is dialled: the timer of the next attempt, and why the last one failed. */
interface Target {
  timer: ReturnType<typeof setTimeout> | undefined;
  problem: string | undefined;
}

export class Dialer {
  readonly #options: DialerOptions;
  readonly #targets = new Map<string, Target>();

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  get addresses(): readonly string[] {
    return [...this.#targets.keys()];
  }

  /** Addresses at which nobody answers, and why. */
  get silent(): readonly { readonly address: string; readonly problem: string }[] {
    return [...this.#targets].flatMap(([address, { problem }]) =>
      problem === undefined ? [] : [{ address, problem }]
    );
  }

  /** Dials exactly these from now on; connections that stand are left alone. */
  follow(addresses: Iterable<string>): void {
    const wanted = new Set(addresses);
    for (const [address, { timer }] of this.#targets) {
      if (wanted.has(address)) continue;
      clearTimeout(timer);
      this.#targets.delete(address);
    }
    for (const address of wanted) {
      if (this.#targets.has(address)) continue;
      const target = { timer: undefined, problem: undefined };
      this.#targets.set(address, target);
      void this.#dial(address, target, REDIAL_MS);
    }
  }

  /** Dials no more. Connections are their owner's to close. */
  close(): void {
    this.follow([]);
  }

  #isFollowed(address: string, target: Target): boolean {
    return this.#targets.get(address) === target;
  }

  async #dial(address: string, target: Target, waitMs: number): Promise<void> {
    let connection: Connection;
    try {
      connection = await this.#options.transport.dial(address);
    } catch (error) {
      if (!(error instanceof OperatingError)) throw error;
      if (!this.#isFollowed(address, target)) return;
      // Said once: it is tried again and again.
      if (target.problem !== error.message) this.#options.failed?.(address, error.message);
      target.problem = error.message;
      return this.#redial(address, target, Math.min(2 * waitMs, REDIAL_MS_MAX));
    }
    if (!this.#isFollowed(address, target)) return connection.close();
    target.problem = undefined;
    const ended = () => this.#redial(address, target, REDIAL_MS);
    const answer = this.#options.connected(connection, address, ended);
    if (answer === "later") this.#redial(address, target, REDIAL_MS_MAX);
  }

  #redial(address: string, target: Target, waitMs: number): void {
    if (!this.#isFollowed(address, target)) return;
    target.timer = setTimeout(() => void this.#dial(address, target, waitMs), waitMs);
  }
}

/** Wait before an address is dialled again: at first, and at most. */
const REDIAL_MS = 200;
const REDIAL_MS_MAX = 2000;
