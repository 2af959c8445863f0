/** A real shard in a process of its own, as a user starts it. */
import { fixtureFolder, startDeno } from "../server/server_process.ts";

const READY = /waits on (\S+:\d+)/;

export class ShardProcess implements AsyncDisposable {
  readonly address: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<unknown>;

  private constructor(address: string, child: Deno.ChildProcess, output: Promise<unknown>) {
    this.address = address;
    this.#child = child;
    this.#output = output;
  }

  /**
   * Starts `shard` and waits until it says where it listens; on a free port and with the fixture
   * unless told. `through`: words before the command, for another host.
   */
  static async start(
    name: string,
    args: readonly string[] = [],
    through: readonly string[] = [],
  ): Promise<ShardProcess> {
    const model = args.includes("--model") ? [] : ["--model", fixtureFolder("moe")];
    const { address, child, output } = await startDeno(
      [
        ...["run", "--no-check", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"],
        ...["src/main.ts", "shard", ...model, "--threads", "1"],
        ...["--listen", "127.0.0.1:0", "--name", name, "--log", "error", ...args],
      ],
      READY,
      {},
      through,
    );
    return new ShardProcess(address, child, output);
  }

  /** Ends at once, or stands still (`SIGSTOP`) and goes on (`SIGCONT`). */
  signal(name: Deno.Signal): void {
    this.#child.kill(name);
  }

  /** How it ended; waits until it has. */
  status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended before
    }
    await this.#child.status;
    await this.#output;
  }
}
