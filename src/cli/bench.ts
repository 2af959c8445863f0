/** `bench`: how fast this machine runs the model shapes, beside its limits and other engines. */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chartSvg } from "@/bench/chart.ts";
import { DeviceProbe, TeamProbe } from "@/bench/limit_probe.ts";
import { browserGpuPeers } from "@/bench/peers/browser_gpu.ts";
import { llamaCpp } from "@/bench/peers/llama_cpp.ts";
import { onnxruntimeWeb } from "@/bench/peers/onnxruntime_web.ts";
import type { Peer } from "@/bench/peers/peer.ts";
import { wllama } from "@/bench/peers/wllama.ts";
import { type Group, planGroups } from "@/bench/plan.ts";
import { profileGroup, profileLines } from "@/bench/profile_run.ts";
import { parseReport, type Report } from "@/bench/report.ts";
import { type Progress, Session } from "@/bench/session.ts";
import { environmentLines, resultsPage, tableLines } from "@/bench/table.ts";
import { systemClock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import type { WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { benchShards, shardBenchDefaults } from "./bench_shards.ts";
import { type Flags, UsageError } from "./flags.ts";
import { printError, printLine } from "./terminal.ts";
import { trainBench } from "./train_bench.ts";
import { writeWhole } from "./whole_file.ts";

const REPEATS_DEFAULT = 3;
const allPeers = [llamaCpp, wllama, onnxruntimeWeb] as const;

const rootFolder = fileURLToPath(new URL("../..", import.meta.url));

/** Peers named by the flag; all of them with `--all` alone. */
function chosenPeers(flags: Flags): Peer[] {
  const named = flags.string("peers");
  if (named === undefined) return flags.on("all") ? [...allPeers] : [];
  return named.split(",").filter(Boolean).map((name) => {
    const peer = allPeers.find((candidate) => candidate.name === name);
    if (peer) return peer;
    const names = allPeers.map((candidate) => candidate.name).join(", ");
    throw new UsageError(`--peers names "${name}", expected some of ${names}`);
  });
}

function showProgress({ text, share, secondsLeft }: Progress): void {
  const percent = `${Math.round(100 * share)}`.padStart(3);
  const minutes = Math.floor(secondsLeft / 60);
  const seconds = `${Math.round(secondsLeft % 60)}`.padStart(2, "0");
  printError(`${percent} %  ${minutes}:${seconds} left  ${text}`);
}

/** Writes the page of results and its chart from a stored report. */
async function writeResults(path: string): Promise<number> {
  let report: Report;
  try {
    report = parseReport(await Deno.readTextFile(path));
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    throw new OperatingError("invalid_request", `Cannot use ${path}: ${error.message}`);
  }
  const folder = join(rootFolder, "benchmarks");
  const [page, chart] = [join(folder, "RESULTS.md"), join(folder, "results.svg")];
  await writeWhole(chart, chartSvg(report));
  await writeWhole(page, resultsPage(report, "results.svg"));
  // Both lie in the repository, whose files are formatted.
  const format = new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page, chart] });
  if (!(await format.output()).success) {
    throw new OperatingError("internal", `Cannot format ${page} and ${chart} with deno fmt`);
  }
  printLine(`Wrote RESULTS.md and results.svg in ${folder}`);
  return 0;
}

/** Tells where the time of each group's steps goes, instead of measuring rows. */
async function showProfiles(
  groups: readonly Group[],
  backend: WasmBackendOptions,
): Promise<number> {
  for (const group of groups.filter(({ shape }) => shape !== "skeleton")) {
    const shapesFolder = join(rootFolder, "benchmarks/shapes");
    const profiles = await profileGroup({ group, shapesFolder, backend, clock: systemClock });
    for (const line of profiles.flatMap((profile) => ["", ...profileLines(profile)])) {
      printLine(line);
    }
  }
  return 0;
}

export async function bench(flags: Flags): Promise<number> {
  if (flags.positionals[0] === "train") return await trainBench(flags);
  const stored = flags.string("results");
  if (stored !== undefined) return await writeResults(stored);
  const shards = flags.number("shards");
  if (shards !== undefined) {
    const folder = join(rootFolder, "benchmarks/shapes/30b-a3b-4-layers");
    const replicas = flags.number("replicas") ?? 1;
    await benchShards({ ...shardBenchDefaults, folder, shards, replicas });
    return 0;
  }
  const threads = flags.number("threads") ?? navigator.hardwareConcurrency;
  const variant = flags.string("variant") as WasmBackendOptions["variant"] | undefined;
  const repeats = flags.number("repeats") ?? REPEATS_DEFAULT;
  const only = flags.string("only");
  const smoke = flags.on("smoke");
  const gpu = flags.string("backend") === "webgpu";
  const groups = planGroups({ all: flags.on("all"), smoke, gpu, repeats, ...(only && { only }) });
  const peers = chosenPeers(flags).filter(({ name }) => !gpu || browserGpuPeers.includes(name));
  const isBrowserOnly = gpu && peers.length > 0 && only === "browser/*";
  if (groups.length === 0 && !isBrowserOnly) throw new UsageError(`--only ${only} matches no row`);
  const kernels = { threads, ...(variant && { variant }) };
  if (flags.on("profile")) return await showProfiles(groups, kernels);
  await using probe = gpu
    ? new DeviceProbe({ clock: systemClock, brief: smoke })
    : new TeamProbe({ ...kernels, clock: systemClock, brief: smoke });
  const session = new Session({
    groups,
    peers,
    backend: { name: gpu ? "webgpu" : "wasm", ...kernels },
    threads,
    repeats,
    rootFolder,
    cacheFolder: resolve(flags.string("cache") ?? join(rootFolder, ".cache/bench")),
    probe,
    clock: systemClock,
    progress: showProgress,
  });
  const report = await session.run();
  const [json, svg] = [flags.string("json"), flags.string("svg")];
  if (json !== undefined) await writeWhole(json, `${JSON.stringify(report, null, 2)}\n`);
  if (svg !== undefined) await writeWhole(svg, chartSvg(report));
  for (const line of [...environmentLines(report), "", ...tableLines(report.rows)]) printLine(line);
  return 0;
}
