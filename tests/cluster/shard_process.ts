/** A real shard in a process of its own, as a user starts it. */
import { fileURLToPath } from "node:url";
import { fixtureFolder } from "../server/server_process.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const READY = /waits on (127\.0\.0\.1:\d+)/;

export class ShardProcess implements AsyncDisposable {
  readonly address: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<unknown>;

  private constructor(address: string, child: Deno.ChildProcess, output: Promise<unknown>) {
    this.address = address;
    this.#child = child;
    this.#output = output;
  }

  /** Starts `shard` and waits until it says where it listens; on a free port unless told. */
  static async start(name: string, args: readonly string[] = []): Promise<ShardProcess> {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--no-check", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"],
        ...["src/main.ts", "shard", "--model", fixtureFolder("moe"), "--threads", "1"],
        ...["--listen", "127.0.0.1:0", "--name", name, "--log", "error", ...args],
      ],
      cwd: root,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let seen = "";
    const found = Promise.withResolvers<string>();
    const watch = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
      const decoder = new TextDecoder();
      for await (const bytes of stream) {
        seen += decoder.decode(bytes, { stream: true });
        const match = READY.exec(seen);
        if (match) found.resolve(match[1]!);
      }
    };
    const output = Promise.allSettled([watch(child.stdout), watch(child.stderr)]);
    child.status.then(() => found.reject(new Error(`The shard ended early:\n${seen}`)));
    return new ShardProcess(await found.promise, child, output);
  }

  /** Ends at once, or stands still (`SIGSTOP`) and goes on (`SIGCONT`). */
  signal(name: Deno.Signal): void {
    this.#child.kill(name);
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
