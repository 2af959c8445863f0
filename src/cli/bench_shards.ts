/**
 * `bench --shards N`: what a layer call over N shards of this machine takes, and where its time
 * goes. Starts the shards as a user would, one thread each, and decodes one answer with and without
 * them; synthetic weights in q4. Shards that share cores also wait for each other: calls are told
 * apart by the nodes that they reach, and the scheduler's books say how long processes waited.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "@/clock.ts";
import { greedyParams } from "@/sampling/params.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import type { EndedSpan } from "@/telemetry/trace.ts";
import type { ClusterFlags } from "./cluster_flags.ts";
import { type CoreTime, coreTimeOf } from "./core_time.ts";
import { openServing, type Serving } from "./serving.ts";
import { printLine } from "./terminal.ts";

const rootFolder = fileURLToPath(new URL("../..", import.meta.url));
const READY = /waits on (\S+)/;

export interface ShardBenchOptions {
  readonly folder: string;
  readonly shards: number;
  /** Answers that make hot code hot, before the measured one. */
  readonly warmAnswers: number;
  readonly tokens: number;
}

export const shardBenchDefaults = { warmAnswers: 8, tokens: 200 } as const;

/** Times of one layer call in milliseconds; wire and wait are what is not the shard's computing. */
interface LayerTimes {
  readonly blocked: number;
  /** In the kernels of the shard that answered last, and of all of them together. */
  readonly compute: number;
  readonly computeAll: number;
  /** On the way to that shard and back, its and our sockets included. */
  readonly wire: number;
  /** In that shard's queue, and for our own bookkeeping. */
  readonly wait: number;
  /** Blocked for longer than the computing takes on the cores that there are, however it is shared. */
  readonly beyondCores: number;
  readonly nodes: number;
}

/** A shard in a process of its own. */
class BenchShard implements AsyncDisposable {
  readonly address: string;
  readonly #child: Deno.ChildProcess;

  get pid(): number {
    return this.#child.pid;
  }

  private constructor(address: string, child: Deno.ChildProcess) {
    this.address = address;
    this.#child = child;
  }

  static async start(folder: string, name: string): Promise<BenchShard> {
    const model = ["--model", folder, "--synthetic", "--quant", "q4", "--preset", "uniform"];
    const node = ["--listen", "127.0.0.1:0", "--name", name, "--threads", "1", "--log", "error"];
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--allow-all",
        join(rootFolder, "src/main.ts"),
        "shard",
        ...model,
        ...node,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let text = "";
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      const address = READY.exec(text)?.[1];
      if (address !== undefined) return new BenchShard(address, child);
    }
    throw new Error(`The shard ended early: ${text}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

async function openModel(
  folder: string,
  addresses: readonly string[],
  record: (span: EndedSpan) => void,
): Promise<Serving> {
  const cluster: ClusterFlags = {
    ...{ addresses, nats: undefined, replicas: 1, localExperts: "none", allowPlaintext: false },
    tracer: { record },
  };
  return await openServing({
    ...{ id: "bench", folder, synthetic: true, quantisation: "q4", preset: "uniform" },
    backend: { name: "wasm", threads: 1 },
    uprightPictures: true,
    log: silentLogger,
    metrics: new Metrics(),
    speculation: "off",
    contextTokens: 512,
    ...(addresses.length > 0 && { cluster }),
  });
}

/** Milliseconds from token to token of one answer. */
async function decode(
  serving: Serving,
  { id, tokens }: { id: string; tokens: number },
): Promise<number[]> {
  const request = { id, promptIds: [5, 17, 33, 4], tiles: [], choices: 1, promptLogprobs: false };
  const params = { ...greedyParams, maxTokens: tokens, ignoreEos: true };
  const atMs: number[] = [];
  for await (const event of serving.engine.submit({ ...request, params })) {
    if (event.type === "token") atMs.push(systemClock.nowMs());
  }
  return atMs.slice(1).map((ms, i) => ms - atMs[i]!);
}

function timesOf({ startEpochMs, endEpochMs, children = [] }: EndedSpan): LayerTimes {
  const blocked = endEpochMs - startEpochMs;
  const last = children.reduce((a, b) => b.endEpochMs > a.endEpochMs ? b : a);
  const number = (name: string) => Number(last.attributes[name]);
  const [compute, queue] = [number("flotilla.compute_ms"), number("flotilla.queue_ms")];
  const wire = last.endEpochMs - last.startEpochMs - compute - queue;
  const computeAll = children.reduce(
    (sum, child) => sum + Number(child.attributes["flotilla.compute_ms"]),
    0,
  );
  const wait = blocked - compute - wire;
  const nodes = children.length;
  const cores = Math.min(navigator.hardwareConcurrency, nodes);
  const beyondCores = Math.max(0, blocked - Math.max(compute, computeAll / cores));
  return { blocked, compute, computeAll, wire, wait, beyondCores, nodes };
}

function row(name: string, values: readonly number[], unit = "ms"): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(3);
  const mean = (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3);
  const columns = [at(0.5), mean, at(0.05), at(0.95)].map((text) => text.padStart(9)).join("");
  return `${name.padEnd(36)}${columns}  ${unit}`;
}

/** Time on and for cores of this process, and of all shards together. */
function coreTimes(
  shards: readonly BenchShard[],
): Record<"front" | "shards", CoreTime> | undefined {
  const [front, ...others] = [Deno.pid, ...shards.map(({ pid }) => pid)].map(coreTimeOf);
  const known = others.filter((time) => time !== undefined);
  if (!front || known.length < shards.length) return undefined;
  const sum = (part: keyof CoreTime) => known.reduce((total, time) => total + time[part], 0);
  return { front, shards: { ranMs: sum("ranMs"), waitedMs: sum("waitedMs") } };
}

/** Tokens of a warm model, the spans of their layer calls, and the cores' time around them. */
async function measure(
  { folder, warmAnswers, tokens }: ShardBenchOptions,
  shards: readonly BenchShard[],
) {
  const addresses = shards.map(({ address }) => address);
  const spans: EndedSpan[] = [];
  let isMeasuring = false;
  const serving = await openModel(folder, addresses, (span) => {
    if (isMeasuring) spans.push(span);
  });
  try {
    while (serving.problem()) await new Promise((resolve) => setTimeout(resolve, 50));
    for (let i = 0; i < warmAnswers; i++) await decode(serving, { id: `warm-${i}`, tokens });
    isMeasuring = true;
    const before = coreTimes(shards);
    const tokenMs = await decode(serving, { id: "measured", tokens });
    return { tokenMs, spans, cores: { before, after: coreTimes(shards) } };
  } finally {
    await serving.close();
  }
}

/** Prints a row for each part. */
export async function benchShards(
  options: ShardBenchOptions,
  print: (line: string) => void = printLine,
): Promise<void> {
  const { folder, shards: count } = options;
  const alone = await measure(options, []);
  await using stack = new AsyncDisposableStack();
  const shards = await Promise.all(
    Array.from({ length: count }, (_, i) => BenchShard.start(folder, `shard-${i}`)),
  );
  for (const shard of shards) stack.use(shard);
  const { tokenMs, spans, cores } = await measure(options, shards);
  // The first calls carry the whole prompt.
  const decoding = Math.min(...spans.map(({ attributes }) => Number(attributes["flotilla.rows"])));
  const layers = spans.filter(({ attributes }) => attributes["flotilla.rows"] === decoding)
    .map(timesOf);
  print(`${"row".padEnd(36)}   median     mean       p5      p95`);
  print(row("cluster/token/alone", alone.tokenMs));
  print(row(`cluster/token/${count}-shards`, tokenMs));
  printLayers(layers, print);
  printCores(cores, { calls: spans.length, print });
}

function printLayers(layers: readonly LayerTimes[], print: (line: string) => void): void {
  for (const part of ["blocked", "compute", "computeAll", "wire", "wait"] as const) {
    const name = part === "computeAll" ? "compute-of-all" : part;
    print(row(`cluster/layer/${name}`, layers.map((times) => times[part])));
  }
  const overheads = (some: readonly LayerTimes[]) => some.map(({ wire, wait }) => wire + wait);
  print(row("cluster/layer/wire+wait", overheads(layers)));
  print(row("cluster/layer/beyond-cores", layers.map((times) => times.beyondCores)));
  print(row("cluster/layer/nodes", layers.map(({ nodes }) => nodes), ""));
  for (const [nodes, some = []] of Map.groupBy(layers, ({ nodes }) => nodes)) {
    const name = `cluster/layer/wire+wait/${nodes}-nodes`;
    print(`${row(name, overheads(some))}  ${some.length} calls`);
  }
}

/** What the processes had of the cores for each layer call, on average. */
function printCores(
  { before, after }: { before: ReturnType<typeof coreTimes>; after: typeof before },
  { calls, print }: { calls: number; print: (line: string) => void },
): void {
  if (!before || !after) return;
  for (const who of ["front", "shards"] as const) {
    const [ran, waited] = (["ranMs", "waitedMs"] as const)
      .map((part) => (after[who][part] - before[who][part]) / calls);
    const figures = [ran!, waited!].map((ms) => ms.toFixed(3).padStart(9)).join("");
    print(`${`cluster/cores/${who}`.padEnd(36)}${figures}  ms on cores, and waiting for one`);
  }
}
