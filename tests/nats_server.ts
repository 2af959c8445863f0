/** A NATS server with JetStream of its own for a test, with its data in a temporary folder. */
import { eventually } from "./patience.ts";
import { probeCommand } from "./skip.ts";

/** Why tests that need NATS are skipped. */
export const natsProbe = await probeCommand("nats-server");

export class NatsServer implements AsyncDisposable {
  readonly port: number;
  readonly #folder = Deno.makeTempDirSync({ prefix: "nats" });
  #process: Deno.ChildProcess | undefined;

  private constructor() {
    this.port = freePort();
  }

  static async start(): Promise<NatsServer> {
    const server = new NatsServer();
    await server.resume();
    return server;
  }

  /** HOST:PORT. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts, again after `stop`, with the data that was there. */
  async resume(): Promise<void> {
    const args = ["-js", "-sd", this.#folder, "-a", "127.0.0.1", "-p", `${this.port}`];
    this.#process = new Deno.Command(natsProbe.command!, { args, stdout: "null", stderr: "null" })
      .spawn();
    await eventually("the server listens", async () => {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port: this.port })).close();
        return true;
      } catch (error) {
        if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
        return false;
      }
    });
  }

  async stop(): Promise<void> {
    this.#process?.kill("SIGTERM");
    await this.#process?.status;
    this.#process = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    Deno.removeSync(this.#folder, { recursive: true });
  }
}

/** A port of 127.0.0.1 that is free now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
