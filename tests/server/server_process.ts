/** A real server in a process of its own, as a user starts it. */
import { fileURLToPath } from "node:url";

/** The repository. */
export const root = fileURLToPath(new URL("../..", import.meta.url));
const READY = /on (http:\/\/127\.0\.0\.1:\d+)/;

export const fixtureFolder = (name: string): string => `${root}tests/fixtures/model/${name}`;

/** A Deno program of this repository, once the first group of `address` stands in its output. */
export async function startDeno(
  args: readonly string[],
  address: RegExp,
  env: Readonly<Record<string, string>> = {},
  through: readonly string[] = [],
): Promise<{
  readonly address: string;
  readonly child: Deno.ChildProcess;
  /** Settles when the program has closed its output. */
  readonly output: Promise<unknown>;
}> {
  const [command, ...words] = [...through, Deno.execPath(), ...args];
  const child = new Deno.Command(command!, {
    args: words,
    env,
    cwd: root,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const seen: string[] = [];
  const found = Promise.withResolvers<string>();
  const watch = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      seen.push(decoder.decode(bytes, { stream: true }));
      const match = address.exec(seen.join(""));
      if (match) found.resolve(match[1]!);
    }
  };
  const output = Promise.allSettled([watch(child.stdout), watch(child.stderr)]);
  child.status.then(() => found.reject(new Error(`The program ended early:\n${seen.join("")}`)));
  return { address: await found.promise, child, output };
}

export class ServerProcess implements AsyncDisposable {
  readonly url: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<unknown>;

  private constructor(url: string, child: Deno.ChildProcess, output: Promise<unknown>) {
    this.url = url;
    this.#child = child;
    this.#output = output;
  }

  /** Starts `serve` on a free port and waits until it says that it is ready. */
  static async start(args: readonly string[]): Promise<ServerProcess> {
    return await ServerProcess.startProgram([
      "run",
      "--no-check",
      "--unstable-no-legacy-abort",
      "--allow-net",
      "--allow-read",
      "--allow-env",
      "--allow-sys",
      "src/main.ts",
      "serve",
      "--port",
      "0",
      "--log",
      "error",
      ...args,
    ], READY);
  }

  /** Starts any Deno program and waits for the address in its output. */
  static async startProgram(args: readonly string[], address: RegExp): Promise<ServerProcess> {
    const started = await startDeno(args, address);
    return new ServerProcess(started.address, started.child, started.output);
  }

  /** Resident memory in bytes. */
  async residentBytes(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`);
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  }

  async post(path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
    return await fetch(`${this.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  }

  /** The value of a metric without labels, or the sum over its labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    let sum = 0;
    for (const line of text.split("\n")) {
      if (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) {
        sum += Number(line.split(" ").at(-1));
      }
    }
    return sum;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
    await this.#output;
  }
}

/** A picture of a fixture as a data: URL. */
export function pictureUrl(model: string, name: string): string {
  const bytes = Deno.readFileSync(`${fixtureFolder(model)}/images/${name}`);
  return `data:image/png;base64,${bytes.toBase64()}`;
}
