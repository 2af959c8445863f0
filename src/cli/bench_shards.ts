/**
 * `bench --shards N`: what a layer call over N shards of this machine takes, and where its time
 * goes. Starts the shards as a user would, one thread each, and decodes one answer with and without
 * them; synthetic weights in q4. How the time is told apart is shard_times.ts. The scheduler's books
 * say how long processes had cores, and waited for one.
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
import { type LayerTimes, layerTimesOf } from "./shard_times.ts";
import { printLine } from "./terminal.ts";

const rootFolder = fileURLToPath(new URL("../..", import.meta.url));
const READY = /waits on (\S+)/;

export interface ShardBenchOptions {
  readonly folder: string;
  readonly shards: number;
  /** Copies of every expert: with two a call reaches fewer shards. */
  readonly replicas: number;
  /** Answers that make hot code hot, before the measured one. */
  readonly warmAnswers: number;
  readonly tokens: number;
}

export const shardBenchDefaults = { warmAnswers: 8, tokens: 200 } as const;

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
  args: {
    addresses: readonly string[];
    replicas: number;
    threads: number;
    record: (span: EndedSpan) => void;
  },
): Promise<Serving> {
  const { addresses, replicas, threads, record } = args;
  const cluster: ClusterFlags = {
    ...{ addresses, nats: undefined, replicas, localExperts: "none", allowPlaintext: false },
    tracer: { record },
  };
  return await openServing({
    ...{ id: "bench", folder, synthetic: true, quantisation: "q4", preset: "uniform" },
    backend: { name: "wasm", threads },
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

/** Whether every expert has its copies. */
function isWhole(serving: Serving): boolean {
  return !serving.problem() && (serving.cluster?.status().underReplicated ?? 0) === 0;
}

/** Tokens of a warm model, the spans of their layer calls, and the cores' time around them. */
async function measure(
  { folder, replicas, warmAnswers, tokens }: ShardBenchOptions,
  shards: readonly BenchShard[],
  threads = 1,
) {
  const addresses = shards.map(({ address }) => address);
  const spans: EndedSpan[] = [];
  let isMeasuring = false;
  const record = (span: EndedSpan) => void (isMeasuring && spans.push(span));
  const serving = await openModel(folder, { addresses, replicas, threads, record });
  try {
    while (!isWhole(serving)) await new Promise((resolve) => setTimeout(resolve, 50));
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
  const cores = navigator.hardwareConcurrency;
  const alone = await measure(options, []);
  const onAllCores = cores > 1 ? await measure(options, [], cores) : undefined;
  await using stack = new AsyncDisposableStack();
  const shards = await Promise.all(
    Array.from({ length: count }, (_, i) => BenchShard.start(folder, `shard-${i}`)),
  );
  for (const shard of shards) stack.use(shard);
  const shared = await measure(options, shards);
  // The first calls carry the whole prompt.
  const rowsOf = ({ attributes }: EndedSpan) => Number(attributes["flotilla.rows"]);
  const decoding = Math.min(...shared.spans.map(rowsOf));
  const layers = shared.spans.filter((span) => rowsOf(span) === decoding)
    .map((span) => layerTimesOf(span, cores));
  print(`${"row".padEnd(36)}   median     mean       p5      p95`);
  print(row("cluster/token/alone", alone.tokenMs));
  if (onAllCores) print(row(`cluster/token/alone-${cores}-threads`, onAllCores.tokenMs));
  print(row(`cluster/token/${count}-shards`, shared.tokenMs));
  printLayers(layers, print);
  printTokens(layers, { tokens: shared.tokenMs.length, print });
  printCores(shared.cores, { calls: shared.spans.length, print });
}

/** Names of the parts of `LayerTimes` in the order in which they are printed. */
const partNames: Readonly<Record<Exclude<keyof LayerTimes, "nodes">, string>> = {
  blocked: "blocked",
  compute: "compute",
  wire: "wire",
  wait: "wait",
  wireAndWait: "wire+wait",
  lastCompute: "compute-of-last",
  computeOfAll: "compute-of-all",
  besideLast: "beside-last",
};

function printLayers(layers: readonly LayerTimes[], print: (line: string) => void): void {
  for (const part of Object.keys(partNames) as (keyof typeof partNames)[]) {
    print(row(`cluster/layer/${partNames[part]}`, layers.map((times) => times[part])));
  }
  print(row("cluster/layer/nodes", layers.map(({ nodes }) => nodes), ""));
  const byNodes = [...Map.groupBy(layers, ({ nodes }) => nodes)].sort(([a], [b]) => a - b);
  for (const [nodes, some] of byNodes) {
    const overheads = some.map(({ wireAndWait }) => wireAndWait);
    print(`${row(`cluster/layer/wire+wait/${nodes}-nodes`, overheads)}  ${some.length} calls`);
  }
}

/** What the layers of a token take together, on average. */
function printTokens(
  layers: readonly LayerTimes[],
  { tokens, print }: { tokens: number; print: (line: string) => void },
): void {
  for (const part of ["blocked", "compute", "wire", "wait"] as const) {
    const ms = layers.reduce((sum, times) => sum + times[part], 0) / tokens;
    print(`${`cluster/token/${part}`.padEnd(36)}${ms.toFixed(3).padStart(9)}  ms, mean`);
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
