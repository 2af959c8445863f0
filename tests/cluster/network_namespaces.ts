/**
 * Hosts of a small network on this machine: network namespaces on one bridge, Ethernet frames of
 * 1500 bytes, unlike loopback's 65536. Needs root and `ip`.
 */
import type { Probe } from "../skip.ts";

const MTU = "1500";

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args, stdin: "null" }).output();
  if (success) return;
  throw new Error(`ip ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}

export class NetworkHosts implements AsyncDisposable {
  readonly count: number;
  readonly #prefix: string;
  readonly #network: string;

  private constructor(count: number) {
    this.count = count;
    // Names of links end at 15 characters; several runs may exist at once.
    this.#prefix = `fl${Deno.pid % 100_000}`;
    this.#network = `10.231.${Deno.pid % 250}`;
  }

  /** Makes a bridge with an address of this process, and `count` hosts on it. */
  static async make(count: number): Promise<NetworkHosts> {
    const hosts = new NetworkHosts(count);
    const bridge = hosts.#prefix;
    try {
      await ip("link", "add", bridge, "type", "bridge");
      await ip("address", "add", `${hosts.#network}.1/24`, "dev", bridge);
      await ip("link", "set", bridge, "mtu", MTU, "up");
      for (let i = 0; i < count; i++) await hosts.#add(i);
      return hosts;
    } catch (error) {
      await hosts[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Address of a host, and the words before a command that run it there. */
  address(i: number): string {
    return `${this.#network}.${10 + i}`;
  }

  through(i: number): readonly string[] {
    return ["ip", "netns", "exec", this.#space(i)];
  }

  /** Cuts the host's cable, or mends it: nobody is told. */
  async cut(i: number, isCut: boolean): Promise<void> {
    await ip("link", "set", this.#cable(i), isCut ? "down" : "up");
  }

  async #add(i: number): Promise<void> {
    const [space, cable, bridge] = [this.#space(i), this.#cable(i), this.#prefix];
    const inside = ["netns", "exec", space, "ip"];
    await ip("netns", "add", space);
    await ip(
      "link",
      "add",
      cable,
      "mtu",
      MTU,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      space,
    );
    await ip("link", "set", cable, "master", bridge, "up");
    await ip(...inside, "link", "set", "lo", "up");
    await ip(...inside, "address", "add", `${this.address(i)}/24`, "dev", "eth0");
    await ip(...inside, "link", "set", "eth0", "mtu", MTU, "up");
  }

  #space(i: number): string {
    return `${this.#prefix}-${i}`;
  }

  #cable(i: number): string {
    return `${this.#prefix}v${i}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const made = [
      ...Array.from({ length: this.count }, (_, i) => ["netns", "delete", this.#space(i)]),
      ["link", "delete", this.#prefix],
    ];
    // What was not made cannot be deleted.
    await Promise.allSettled(made.map((args) => ip(...args)));
  }
}

/** Why there are no namespaces here, if so. */
export async function probeNamespaces(): Promise<Probe> {
  const tool = "ip netns";
  try {
    await using _hosts = await NetworkHosts.make(1);
    return { tool, missing: undefined };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { tool, missing: "not installed" };
    return { tool, missing: error instanceof Error ? error.message : String(error) };
  }
}
