/**
 * Load while shards are killed, stopped and restarted at random, one at a time:
 * `deno run -A tests/cluster/chaos.ts [--requests N] [--tokens N] [--shards N] [--seed N]`.
 * With two copies of every expert nothing may show but a pause: every answer has exactly the tokens
 * of an undisturbed process. Prints what was seen; a small run is part of the tests.
 *
 * With `--v8-flags=--expose-gc` behind `run` it also fails when the front's memory grows: the
 * median of the last quarter must not exceed that of the second one by more than GROWTH_BYTES_MAX.
 * The rooms in which V8 makes new objects do not count: it doubles them once, at a moment of its own
 * choice, up to a bound, and keeps nothing there.
 */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import v8 from "node:v8";
import { systemClock } from "@/clock.ts";
import { freshSeed, seededRandom } from "@/random.ts";
import { freePort } from "../nats_server.ts";
import { waitFor } from "../patience.ts";
import { FrontRig, pause } from "./front_rig.ts";
import { ShardProcess } from "./shard_process.ts";
import { percentile, promptOf, stream } from "./stream_load.ts";

export const disturbances = ["kill", "stop", "restart"] as const;
export type Disturbance = (typeof disturbances)[number];

export interface ChaosOptions {
  /** At least so many; more while disturbances go on. */
  readonly requests: number;
  readonly tokens: number;
  readonly streams: number;
  readonly shards: number;
  /** In this order; undefined: at random until the requests are done. */
  readonly plan?: readonly Disturbance[];
  readonly seed: number;
  readonly log?: (line: string) => void;
}

export interface ChaosReport {
  readonly requests: number;
  readonly disturbed: Readonly<Record<Disturbance, number>>;
  readonly wrong: number;
  readonly errors: readonly string[];
  readonly pausesMs: readonly number[];
  /** After each sixteenth of the requests; garbage is collected before where that can be asked for. */
  readonly memory: readonly MemorySample[];
}

/** What the front's process uses, in bytes. */
export interface MemorySample {
  readonly requests: number;
  readonly rss: number;
  /** V8's rooms for new objects, free or not; part of `rss`. */
  readonly young: number;
  readonly heap: number;
  /** Buffers of JavaScript, and the kernels' memory. */
  readonly external: number;
}

const MEMORY_SAMPLES = 16;
/** Much less than one kept object per call would take, more than one sample differs from the next. */
const GROWTH_BYTES_MAX = { heap: 2e6, resident: 12e6 };

const PROMPTS = 24;
/** For how long a process stands still: longer than the silence that counts as loss. */
const STOP_MS = 1500;
const RECOVERY_MS = 60_000;

/** Shards that come back at their addresses. */
class Herd implements AsyncDisposable {
  readonly addresses: readonly string[];
  readonly #shards: ShardProcess[] = [];

  constructor(count: number) {
    this.addresses = Array.from({ length: count }, () => `127.0.0.1:${freePort()}`);
  }

  async start(): Promise<void> {
    await Promise.all(this.addresses.map((_, i) => this.#begin(i)));
  }

  async disturb(kind: Disturbance, i: number): Promise<void> {
    const shard = this.#shards[i]!;
    if (kind === "stop") {
      shard.signal("SIGSTOP");
      await pause(STOP_MS);
      return shard.signal("SIGCONT");
    }
    shard.signal(kind === "kill" ? "SIGKILL" : "SIGTERM");
    await shard.status();
    await this.#begin(i);
  }

  async #begin(i: number): Promise<void> {
    const args = ["--listen", this.addresses[i]!, "--drain-seconds", "20"];
    this.#shards[i] = await ShardProcess.start(`shard-${i}`, args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard[Symbol.asyncDispose]()));
  }
}

class Chaos {
  readonly #options: ChaosOptions;
  readonly #rig: FrontRig;
  readonly #herd: Herd;
  readonly #expected: readonly (readonly number[])[];
  readonly #random: () => number;
  readonly #disturbed = { kill: 0, stop: 0, restart: 0 };
  readonly #errors: string[] = [];
  readonly #pausesMs: number[] = [];
  #requests = 0;
  #done = 0;
  #wrong = 0;
  readonly #memory: MemorySample[] = [];
  #isDisturbing = true;

  constructor(
    options: ChaosOptions,
    parts: { rig: FrontRig; herd: Herd; expected: readonly (readonly number[])[] },
  ) {
    this.#options = options;
    this.#rig = parts.rig;
    this.#herd = parts.herd;
    this.#expected = parts.expected;
    this.#random = seededRandom(options.seed);
  }

  async run(): Promise<ChaosReport> {
    const workers = Array.from({ length: this.#options.streams }, () => this.#work());
    await this.#disturb().finally(() => this.#isDisturbing = false);
    await Promise.all(workers);
    return {
      requests: this.#requests,
      disturbed: this.#disturbed,
      wrong: this.#wrong,
      errors: this.#errors,
      pausesMs: this.#pausesMs,
      memory: this.#memory,
    };
  }

  async #work(): Promise<void> {
    const { requests, tokens } = this.#options;
    while (this.#requests < requests || this.#isDisturbing) {
      const number = this.#requests++ % PROMPTS;
      try {
        const answer = await stream(this.#rig, { promptIds: promptOf(number), tokens });
        for (const ms of answer.pausesMs) this.#pausesMs.push(ms);
        if (String(answer.tokens) !== String(this.#expected[number])) this.#wrong += 1;
      } catch (error) {
        this.#errors.push(String(error));
      }
      this.#done += 1;
      const due = (this.#memory.length + 1) * requests / MEMORY_SAMPLES;
      if (this.#done >= due && this.#memory.length < MEMORY_SAMPLES) {
        this.#memory.push(memorySample(this.#done));
      }
    }
  }

  async #disturb(): Promise<void> {
    const { plan, requests, shards, log } = this.#options;
    for (let i = 0; plan ? i < plan.length : this.#done < requests; i++) {
      const kind = plan?.[i] ?? disturbances[Math.floor(this.#random() * disturbances.length)]!;
      const shard = Math.floor(this.#random() * shards);
      await pause(200 + 400 * this.#random());
      await this.#herd.disturb(kind, shard);
      this.#disturbed[kind] += 1;
      const startMs = systemClock.nowMs();
      await this.#recovered();
      const ms = Math.round(systemClock.nowMs() - startMs);
      log?.(`${kind} of shard ${shard}, whole again after ${ms} ms, ${this.#done} requests done`);
    }
  }

  /** Two live copies of every expert again: what makes the next fault bearable. */
  async #recovered(): Promise<void> {
    const isWhole = () => {
      const { nodes, underReplicated } = this.#rig.serving.cluster!.status();
      return nodes.length === this.#options.shards && underReplicated === 0 &&
        nodes.every(({ connected, held, planned }) => connected && held >= planned);
    };
    assert.ok(await waitFor(RECOVERY_MS, isWhole), "the cluster does not become whole again");
  }
}

/** Present with `--v8-flags=--expose-gc`. */
function garbageCollector(): (() => void) | undefined {
  return (globalThis as { gc?: () => void }).gc;
}

function memorySample(requests: number): MemorySample {
  garbageCollector()?.();
  const { rss, heapUsed: heap, external } = Deno.memoryUsage();
  const young = v8.getHeapSpaceStatistics()
    .filter((space) => space.space_name.startsWith("new_"))
    .reduce((sum, space) => sum + space.physical_space_size, 0);
  return { requests, rss, young, heap, external };
}

/**
 * How much more the last quarter of the samples is than the second one, in the median: the heap, and
 * what is resident beside the rooms for new objects.
 */
export function growthOf(memory: readonly MemorySample[]): { heap: number; resident: number } {
  const quarter = Math.floor(memory.length / 4);
  const growth = (bytes: (sample: MemorySample) => number) => {
    const median = (samples: readonly MemorySample[]) => percentile(samples.map(bytes), 0.5);
    return median(memory.slice(-quarter)) - median(memory.slice(quarter, 2 * quarter));
  };
  return { heap: growth(({ heap }) => heap), resident: growth(({ rss, young }) => rss - young) };
}

/** Whether memory stays as it is. */
export function isFlat(memory: readonly MemorySample[]): boolean {
  const { heap, resident } = growthOf(memory);
  return heap <= GROWTH_BYTES_MAX.heap && resident <= GROWTH_BYTES_MAX.resident;
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const expected: (readonly number[])[] = [];
  {
    await using rig = await FrontRig.open({ quantisation: "none" });
    for (let number = 0; number < PROMPTS; number++) {
      const request = { promptIds: promptOf(number), tokens: options.tokens };
      expected.push((await stream(rig, request)).tokens);
    }
  }
  await using herd = new Herd(options.shards);
  await herd.start();
  const { addresses } = herd;
  await using rig = await FrontRig.open({ quantisation: "none", addresses, replicas: 2 });
  await rig.covered();
  return await new Chaos(options, { rig, herd, expected }).run();
}

async function main(): Promise<void> {
  const options = { requests: "1000", tokens: "48", shards: "3", streams: "16", seed: "" };
  const { values } = parseArgs({
    args: [...Deno.args],
    options: Object.fromEntries(Object.keys(options).map((name) => [name, { type: "string" }])),
  });
  const number = (name: keyof typeof options) => Number(values[name] ?? options[name]);
  const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
  const seed = number("seed") || freshSeed();
  print(`seed ${seed}`);
  const report = await runChaos({
    ...{ requests: number("requests"), tokens: number("tokens"), shards: number("shards") },
    ...{ streams: number("streams"), seed, log: print },
  });
  const { pausesMs, errors, memory, ...rest } = report;
  print(JSON.stringify(rest));
  for (const error of new Set(errors)) print(error);
  const at = (share: number) => `${Math.round(percentile(pausesMs, share))} ms`;
  print(`pause between tokens: p50 ${at(0.5)}, p99 ${at(0.99)}, p99.9 ${at(0.999)}, max ${at(1)}`);
  showMemory(memory, print);
  // What is garbage can be told only where it can be collected.
  const isSteady = !garbageCollector() || isFlat(memory);
  print(`${errors.length} errors, ${report.wrong} wrong answers`);
  Deno.exitCode = errors.length + report.wrong === 0 && isSteady ? 0 : 1;
}

/** Prints the front's memory. */
function showMemory(memory: readonly MemorySample[], print: (line: string) => void): void {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  for (const { requests, rss, young, heap, external } of memory) {
    const parts = `of it for new objects ${megabytes(young)}, heap ${megabytes(heap)}, ` +
      `external ${megabytes(external)}`;
    print(`memory after ${requests} requests: rss ${megabytes(rss)} MB, ${parts}`);
  }
  const { heap, resident } = growthOf(memory);
  const growth = `heap ${megabytes(heap)} MB, resident ${megabytes(resident)} MB`;
  print(`from the second to the last quarter, without the rooms for new objects: ${growth}`);
}

if (import.meta.main) await main();
