/**
 * One run of the benchmark: limits first and last, each group in its process with the peers before
 * it and between its samples, derived rows, and the report. Prints nothing.
 */
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import type { BackendOptions } from "@/kernels/open.ts";
import { type ModelConfig, readModelConfig } from "@/model/config.ts";
import { withGoals } from "./goals.ts";
import type { GroupMessage, PeerSpeed } from "./group.ts";
import { runGroupProcess } from "./group_runner.ts";
import { commitName, loadAverage, processorName } from "./host.ts";
import type { LimitProbe, Limits, Moment } from "./limits.ts";
import { measureBrowserGpu } from "./peers/browser_gpu.ts";
import type { Peer, PeerContext, PeerResult, PeerRun } from "./peers/peer.ts";
import { expectedSeconds, type Group, type Measurement, rowName } from "./plan.ts";
import {
  asGoodAs,
  besidePeer,
  type Environment,
  type Report,
  REPORT_SCHEMA,
  type Row,
  rowOf,
  type Samples,
  summarize,
} from "./report.ts";

export interface SessionOptions {
  readonly groups: readonly Group[];
  readonly peers: readonly Peer[];
  readonly backend: BackendOptions;
  readonly threads: number;
  readonly repeats: number;
  readonly rootFolder: string;
  readonly cacheFolder: string;
  readonly probe: LimitProbe;
  readonly clock: Clock;
  readonly progress: (progress: Progress) => void;
}

/** Where a run stands. */
export interface Progress {
  readonly text: string;
  /** 0 to 1. */
  readonly share: number;
  readonly secondsLeft: number;
}

/** Load average above which a machine counts as busy before the run. */
const QUIET_LOAD = 0.5;
/** Relative change of a limit within a run that makes its rows doubtful. */
const STEADY_SHARE = 0.25;
/** Expected seconds of one peer beside one group. */
const PEER_SECONDS = { "llama.cpp": 30, wllama: 90, "onnxruntime-web": 90 } as const;

const limitRows = [
  ["limits/read", "readGBs", "GB/s"],
  ["limits/i16", "i16Gops", "Gop/s"],
  ["limits/dot3", "dot3Gops", "Gop/s"],
  ["limits/f32", "f32Gops", "Gop/s"],
] as const;

export class Session {
  readonly #options: SessionOptions;
  readonly #rows: Row[] = [];
  readonly #limits: Limits[] = [];
  readonly #startMs: number;
  readonly #expectedSeconds: number;
  #doneSeconds = 0;
  #kernels = "";
  #threads: number;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#startMs = options.clock.nowMs();
    this.#threads = options.threads;
    let expected = 0;
    for (const group of options.groups) {
      for (const each of group.measurements) expected += expectedSeconds(group, each);
      for (const peer of options.peers) {
        if (this.#isPeerOf(peer, group)) expected += peerSeconds(peer);
      }
    }
    this.#expectedSeconds = expected;
  }

  /** Throws OperatingError when a peer is missing (before anything is measured) or a group fails. */
  async run(): Promise<Report> {
    const { groups, peers, clock } = this.#options;
    const date = new Date(clock.epochMs()).toISOString();
    const firstLoad = loadAverage();
    for (const peer of peers) await peer.check(this.#peerContext());
    await this.#measureLimits();
    for (const group of groups) await this.#runGroup(group);
    await this.#runBrowserGpu();
    await this.#measureLimits();
    this.#deriveOverhead();
    const environment = await this.#environment(date, firstLoad);
    const rows = [...this.#limitRows(), ...this.#rows].map(withGoals);
    return { schema: REPORT_SCHEMA, environment, rows };
  }

  async #measureLimits(): Promise<void> {
    this.#limits.push(await this.#options.probe.measure());
  }

  async #runGroup(group: Group): Promise<void> {
    const { backend, rootFolder, cacheFolder, peers } = this.#options;
    await using opened = new AsyncDisposableStack();
    const runs = new Map<Peer, PeerRun>();
    const results = new Map<Peer, readonly PeerResult[]>();
    for (const peer of peers.filter((peer) => this.#isPeerOf(peer, group))) {
      const config = await readShape(`${rootFolder}/benchmarks/shapes/${group.folder}`);
      const format = group.format === "q8" ? "q8" : "q4";
      const run = await peer.open(this.#peerContext(), { shape: group.shape, config, format });
      runs.set(peer, opened.use(run));
      if (group.measurements.some(({ kind }) => kind === "prefill" || kind === "tile")) {
        results.set(peer, await run.measure());
      }
      this.#doneSeconds += peerSeconds(peer);
    }
    const firstRow = this.#rows.length;
    const shapesFolder = `${rootFolder}/benchmarks/shapes`;
    await runGroupProcess({ group, shapesFolder, cacheFolder, backend }, {
      moment: (beside) => this.#moment(beside, runs),
      tell: (message) => this.#hear(message, { group, runs }),
    });
    for (const [peer, each] of results) this.#addPeer(peer, { results: each, firstRow });
  }

  /** The machine, and what peers reach in it, between two samples of ours. */
  async #moment(
    beside: Measurement["kind"],
    runs: ReadonlyMap<Peer, PeerRun>,
  ): Promise<Moment> {
    const speeds: Record<string, number> = {};
    for (const [{ name }, { decode }] of beside === "decode" ? runs : []) {
      if (decode) speeds[name] = await decode();
    }
    const limits = await this.#options.probe.glance();
    this.#limits.push(limits);
    return { limits, peers: speeds };
  }

  /** Beside a GPU's own rows: engines for pages, which run on no GPU of this process. */
  async #runBrowserGpu(): Promise<void> {
    const { backend, peers, rootFolder } = this.#options;
    if (backend.name !== "webgpu" || peers.length === 0) return;
    const shapesFolder = `${rootFolder}/benchmarks/shapes`;
    const context = this.#peerContext();
    this.#rows.push(...await measureBrowserGpu({ context, peers, shapesFolder }));
  }

  #hear(
    message: GroupMessage,
    { group, runs }: { group: Group; runs: ReadonlyMap<Peer, PeerRun> },
  ): void {
    switch (message.kind) {
      case "begin":
        return this.#report(rowName(group, group.measurements[message.measurement]!));
      case "kernels":
        this.#kernels = message.text;
        this.#threads = message.threads;
        return;
      case "row": {
        const { row, peers } = message;
        const notes = new Map([...runs].map(([{ name }, run]) => [name as string, run.decodeNote]));
        this.#addRow(row, peers.map((peer) => ({ ...peer, note: notes.get(peer.name) })));
        const done = group.measurements.find((each) => rowName(group, each) === row.name)!;
        this.#doneSeconds += expectedSeconds(group, done);
        return;
      }
    }
  }

  /** Our row, and those of peers that were measured between its samples. */
  #addRow(row: Row, peers: readonly (PeerSpeed & { note: string | undefined })[]): void {
    const index = this.#rows.push(row) - 1;
    for (const { name, values, ratio, note } of peers) {
      this.#addPeerRow(index, { name, samples: summarize(values), ratio, note });
    }
  }

  /** Rows of the peer, and the peer in our rows from `firstRow` on. */
  #addPeer(
    { name }: Peer,
    facts: { results: readonly PeerResult[]; firstRow: number },
  ): void {
    for (const { of, samples, note } of facts.results) {
      const index = this.#rows.findIndex((row, at) =>
        at >= facts.firstRow && (row.name.startsWith(`${of}/`) || row.name.startsWith(`vit/${of}/`))
      );
      if (index < 0) continue;
      const ratio = asGoodAs(this.#rows[index]!, samples.median);
      this.#addPeerRow(index, { name, samples, ratio, note });
    }
  }

  /** A peer's row of the same quantity as ours at `index`, and the peer in ours. */
  #addPeerRow(
    index: number,
    peer: { name: string; samples: Samples; ratio: number; note: string | undefined },
  ): void {
    const ours = this.#rows[index]!;
    const { name, samples, ratio, note } = peer;
    const { unit, better } = ours;
    const value = samples.median;
    const facts = { name: `peer/${name}/${ours.name}`, unit, better, ...(note && { note }) };
    this.#rows.push({ ...facts, value, samples, ratio });
    // The first peer of a row is the one it is mainly compared with.
    if (ours.peer === undefined) this.#rows[index] = besidePeer(ours, { name, value, ratio });
  }

  /** A step without width is all overhead: as a share of a real step. */
  #deriveOverhead(): void {
    const find = (name: string) => this.#rows.find((row) => row.name === name);
    const skeleton = find("step/skeleton");
    const step = find("decode/1.7b/q4/b1") ?? find("decode/smoke/q4/b1");
    if (skeleton === undefined || step === undefined) return;
    const stepMs = 1000 / step.value;
    const { samples: { min, median, max } } = skeleton;
    const note = `${skeleton.value.toFixed(2)} ms of barriers and JavaScript in ${
      stepMs.toFixed(1)
    } ms`;
    const percents = [min, median, max].map((ms) => 100 * ms / stepMs);
    this.#rows.push(rowOf({ name: "step/overhead", unit: "%", better: "less", note }, percents));
  }

  #limitRows(): Row[] {
    const facts = { better: "more" as const };
    return limitRows.map(([name, key, unit]) =>
      rowOf({ ...facts, name, unit }, this.#limits.map((limits) => limits[key]))
    );
  }

  async #environment(date: string, firstLoad: number): Promise<Environment> {
    const lastLoad = loadAverage();
    const { clock, rootFolder } = this.#options;
    return {
      date,
      seconds: Math.round((clock.nowMs() - this.#startMs) / 1000),
      commit: await commitName(rootFolder),
      deno: Deno.version.deno,
      platform: `${Deno.build.os} ${Deno.build.arch}`,
      cpu: await processorName(),
      cores: navigator.hardwareConcurrency,
      memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
      threads: this.#threads,
      kernels: this.#kernels,
      load: [firstLoad, lastLoad],
      warnings: this.#warnings(firstLoad, lastLoad),
    };
  }

  #warnings(firstLoad: number, lastLoad: number): string[] {
    const warnings: string[] = [];
    if (firstLoad > QUIET_LOAD) {
      warnings.push(`The machine was not quiet: load average ${firstLoad.toFixed(1)} at the start`);
    }
    if (lastLoad > this.#threads + QUIET_LOAD) {
      warnings.push(`Something else computed meanwhile: load average ${lastLoad.toFixed(1)}`);
    }
    for (const { name, samples } of this.#limitRows()) {
      if (samples.max < samples.min * (1 + STEADY_SHARE)) continue;
      const [low, high] = [samples.min.toFixed(1), samples.max.toFixed(1)];
      warnings.push(`${name} moved between ${low} and ${high} during the run`);
    }
    return warnings;
  }

  #peerContext(): PeerContext {
    const { cacheFolder, repeats, clock } = this.#options;
    const progress = (text: string) => this.#report(text);
    return { cacheFolder, threads: this.#threads, repeats, clock, progress };
  }

  /** A GPU's rows have no peers: those compute on the processor, or in a page. */
  #isPeerOf(peer: Peer, group: Group): boolean {
    return this.#options.backend.name !== "webgpu" && isPeerOf(peer, group);
  }

  #report(text: string): void {
    const { clock, progress } = this.#options;
    const share = this.#doneSeconds / this.#expectedSeconds;
    const elapsed = (clock.nowMs() - this.#startMs) / 1000;
    const expectedLeft = this.#expectedSeconds - this.#doneSeconds;
    // Trust the table at first and the measured pace later.
    const pace = this.#doneSeconds > 0 ? elapsed / this.#doneSeconds : 1;
    const secondsLeft = expectedLeft * (share * pace + 1 - share);
    progress({ text, share, secondsLeft });
  }
}

/** Which rows a peer is measured beside. */
function isPeerOf(peer: Peer, group: Group): boolean {
  const kinds = new Set(group.measurements.map(({ kind }) => kind));
  if (peer.name === "onnxruntime-web") return group.shape === "vit";
  if (group.shape !== "1.7b" || !(kinds.has("decode") || kinds.has("prefill"))) return false;
  return peer.name === "wllama" ? group.format === "q4" : ["q4", "q8"].includes(group.format);
}

function peerSeconds(peer: Peer): number {
  return PEER_SECONDS[peer.name];
}

async function readShape(folder: string): Promise<ModelConfig> {
  try {
    return readModelConfig({
      config: JSON.parse(await Deno.readTextFile(`${folder}/config.json`)),
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new OperatingError("checkpoint_invalid", `Cannot read the shape ${folder}/config.json`);
  }
}
