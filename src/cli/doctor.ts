/** `doctor`: what this machine can do, which kernels run and why, what is missing. */
import { openBackend } from "@/kernels/open.ts";
import type { BackendDescription } from "@/kernels/backend.ts";
import type { WasmBackendOptions } from "@/kernels/wasm/backend.ts";
import { obstacle, probeFeatures } from "@/kernels/wasm/features.ts";
import { WIDE_VARIANT } from "@/kernels/wasm/variants.ts";
import { adapterObstacle, openDevice } from "@/kernels/webgpu/device.ts";
import { OperatingError } from "@/errors.ts";
import { tuningText } from "@/kernels/webgpu/tuning.ts";
import { limits } from "@/limits.ts";
import { Logger } from "@/telemetry/log.ts";
import { placementText } from "@/engine/gpu_placement.ts";
import { type MemoryPlan, planText } from "@/engine/memory_plan.ts";
import type { Flags } from "./flags.ts";

import { printLine } from "./terminal.ts";

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

interface Report {
  readonly deno: string;
  readonly platform: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernels: BackendDescription | undefined;
  readonly findings: readonly Finding[];
}

async function kernels(
  flags: Flags,
  memoryBytes: number | undefined,
): Promise<BackendDescription | Error> {
  const threads = flags.number("threads");
  const variant = flags.string("variant") as WasmBackendOptions["variant"] | undefined;
  try {
    const backend = await openBackend({
      name: "wasm",
      ...(threads && { threads }),
      ...(variant && { variant }),
      ...(memoryBytes && { memoryBytes }),
    });
    await backend.close();
    return backend.description;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function hasProgram(name: string): Promise<boolean> {
  try {
    return (await new Deno.Command(name, { args: ["-version"], stdout: "null", stderr: "null" })
      .output()).success;
  } catch (error) {
    // Deno grants only programs that it found at start.
    const { NotFound, NotCapable } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotCapable) return false;
    throw error;
  }
}

const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);

/** What the models of `--model` need, each in its own memory, and whether that is there. */
async function modelNeeds(flags: Flags): Promise<{ findings: Finding[]; largestBytes: number }> {
  // Only here: the server's parts need not load for the rest.
  const { modelFolders, servingOptions } = await import("./serve.ts");
  const { servingMemory } = await import("./serving.ts");
  const availableBytes = Deno.systemMemoryInfo().available;
  const findings: Finding[] = [];
  let largestBytes = 0;
  for (const { id, folder } of modelFolders(flags)) {
    const plan = await servingMemory({ ...servingOptions(flags), folder });
    largestBytes = Math.max(largestBytes, plan.totalBytes);
    findings.push({
      name: "model",
      ok: plan.totalBytes <= availableBytes,
      detail: `${id} needs up to ${planText(plan)}; ${gib(availableBytes)} GiB are available`,
    });
    const placed = await placement(flags, { id, plan });
    if (placed) findings.push(placed);
  }
  return { findings, largestBytes };
}

/** What of a model `--backend webgpu` puts where; undefined where a GPU is neither there nor named. */
async function placement(
  flags: Flags,
  { id, plan }: { id: string; plan: MemoryPlan },
): Promise<Finding | undefined> {
  const isNamed = flags.string("backend") === "webgpu" ||
    flags.string("gpu-memory") !== undefined ||
    flags.string("gpu-experts") !== undefined;
  if (!isNamed && !(await gpu()).ok) return undefined;
  const { gpuFlags, gpuPlacement } = await import("./gpu_flags.ts");
  try {
    const placed = await gpuPlacement(plan, gpuFlags(flags));
    return { name: "gpu plan", ok: true, detail: `${id}: ${placementText(placed)}` };
  } catch (error) {
    if (!(error instanceof OperatingError)) throw error;
    return { name: "gpu plan", ok: false, detail: `${id} runs on wasm: ${error.message}` };
  }
}

/** Whether models beyond 32-bit addresses can run. */
function wideKernels(): Finding {
  const problem = obstacle(WIDE_VARIANT, probeFeatures());
  const wideMax = gib(limits.kernelMemory64PagesMax * 65536);
  const narrowMax = gib(limits.narrowMemoryBytesMax);
  return {
    name: "large models",
    ok: problem === "",
    detail: problem === ""
      ? `64-bit kernels take over above ${narrowMax} GiB, up to ${wideMax} GiB`
      : `nothing above 4 GiB: ${problem}`,
  };
}

/** Whether `--backend webgpu` can run, and on what. */
async function gpu(): Promise<Finding> {
  const obstacle = await adapterObstacle(navigator.gpu);
  if (obstacle !== undefined) return { name: "webgpu", ok: false, detail: obstacle };
  const { gpu: device, adapterName, isSoftware, features } = await openDevice(navigator.gpu);
  const bindingMib = Math.floor(device.limits.maxStorageBufferBindingSize / 2 ** 20);
  device.destroy();
  const kind = isSoftware ? ", which is the processor: slower than the wasm kernels" : "";
  const has = [...features].filter((feature) => feature !== "timestamp-query").join(", ");
  return {
    name: "webgpu",
    ok: !isSoftware,
    detail: `${adapterName}${kind}; tensors up to ${bindingMib} MiB${has && `; ${has}`}`,
  };
}

/** What suits the GPU, as measured before or with `--tune`; undefined without a GPU. */
async function gpuTuning(flags: Flags): Promise<Finding | undefined> {
  if (await adapterObstacle(navigator.gpu) !== undefined) return undefined;
  const { knownTuning, newTuning } = await import("./gpu_tuning.ts");
  const device = await openDevice(navigator.gpu);
  try {
    const tuning = flags.on("tune")
      ? await newTuning(device, { log: new Logger({ level: "warn", format: "pretty" }) })
      : await knownTuning(device);
    if (tuning) return { name: "gpu tuning", ok: true, detail: tuningText(tuning) };
    if (device.isSoftware) return undefined;
    const detail = "not measured yet: the first start with --backend webgpu does it, or --tune";
    return { name: "gpu tuning", ok: true, detail };
  } finally {
    device.gpu.destroy();
  }
}

/** Looks at the machine, and at the models of `--model`. */
export async function examine(flags: Flags): Promise<Report> {
  const models = flags.list("model").length > 0 ? await modelNeeds(flags) : undefined;
  const description = await kernels(flags, models?.largestBytes);
  const failed = description instanceof Error;
  const shared = typeof SharedArrayBuffer !== "undefined";
  const nano = await Deno.stat(new URL("../../models/nano/config.json", import.meta.url))
    .then(() => true, () => false);
  const ffmpeg = await hasProgram("ffmpeg");
  const findings: Finding[] = [
    {
      name: "kernels",
      ok: !failed,
      detail: failed ? description.message : `${description.variant}: ${description.reason}`,
    },
    {
      name: "threads",
      ok: shared && navigator.hardwareConcurrency > 1,
      detail: shared
        ? `${navigator.hardwareConcurrency} cores, shared memory available`
        : "no shared memory: one thread only",
    },
    wideKernels(),
    ...(models?.findings ?? []),
    { name: "nano", ok: nano, detail: nano ? "shipped model found" : "models/nano is missing" },
    {
      name: "video files",
      ok: ffmpeg,
      detail: ffmpeg ? "ffmpeg found" : "ffmpeg is not installed: frame lists and GIF/WebP only",
    },
    await gpu(),
    ...[await gpuTuning(flags)].filter((finding) => finding !== undefined),
  ];
  return {
    deno: Deno.version.deno,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    cores: navigator.hardwareConcurrency,
    memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    kernels: failed ? undefined : description,
    findings,
  };
}

export async function doctor(flags: Flags): Promise<number> {
  const report = await examine(flags);
  if (flags.on("json")) printLine(JSON.stringify(report, null, 2));
  else {
    printLine(
      `Deno ${report.deno} on ${report.platform}, ${report.cores} cores, ` +
        `${report.memoryGiB} GiB`,
    );
    for (const { name, ok, detail } of report.findings) {
      printLine(`${ok ? "ok  " : "--  "}${name.padEnd(12)} ${detail}`);
    }
    if (report.kernels) printLine(`    numeric class ${report.kernels.numericClass}`);
  }
  return report.kernels ? 0 : 1;
}
