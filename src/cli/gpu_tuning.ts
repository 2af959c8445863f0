/**
 * What was measured to suit the GPU of this machine, kept on disk between starts. It counts for one
 * adapter, driver, runtime and version of the kernels; whatever differs is measured anew.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { systemClock } from "@/clock.ts";
import type { BackendOptions } from "@/kernels/open.ts";
import { type Device, openDevice } from "@/kernels/webgpu/device.ts";
import { parseTuning, type Tuning, TUNING_VERSION } from "@/kernels/webgpu/tuning.ts";
import { searchTuning } from "@/kernels/webgpu/tuning_search.ts";
import type { Logger } from "@/telemetry/log.ts";
import { cacheFolder } from "./cache_folder.ts";

export interface TuningPlace {
  /** Default: the user's cache folder. */
  readonly folder?: string;
  readonly search?: typeof searchTuning;
}

/** The options with a tuning, if they are for a GPU that is one: measured at the first start. */
export async function tunedBackend(
  options: BackendOptions,
  { log, ...place }: TuningPlace & { readonly log: Logger },
): Promise<BackendOptions> {
  if (options.name !== "webgpu") return options;
  const device = await openDevice(navigator.gpu);
  try {
    if (device.isSoftware) return options;
    const tuning = await knownTuning(device, place) ?? await newTuning(device, { ...place, log });
    return { ...options, tuning };
  } finally {
    device.gpu.destroy();
  }
}

/** What is on disk for a device; undefined when nothing is, or nothing usable. */
export async function knownTuning(
  device: Device,
  { folder = cacheFolder() }: TuningPlace = {},
): Promise<Tuning | undefined> {
  try {
    const text = await Deno.readTextFile(await fileOf(device, folder));
    return parseTuning(JSON.parse(text).tuning);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Measures, and keeps what it found; what cannot be kept is measured again next time. */
export async function newTuning(
  device: Device,
  { log, folder = cacheFolder(), search = searchTuning }: TuningPlace & { readonly log: Logger },
): Promise<Tuning> {
  log.info("measuring which kernels suit the GPU", { adapter: device.adapterName });
  const tuning = await search(device);
  try {
    await Deno.mkdir(folder, { recursive: true });
    const file = await fileOf(device, folder);
    const partial = `${file}.${Deno.pid}.partial`;
    const facts = { adapter: device.adapterName, measuredMs: systemClock.epochMs(), tuning };
    await Deno.writeTextFile(partial, `${JSON.stringify(facts, null, 2)}\n`);
    await Deno.rename(partial, file);
  } catch (error) {
    log.warn("cannot keep what suits the GPU: the next start measures it again", { error });
  }
  return tuning;
}

async function fileOf({ identity }: Device, folder: string): Promise<string> {
  const facts = [TUNING_VERSION, Deno.version.deno, identity, ...await driverVersions()];
  const hash = createHash("sha256").update(JSON.stringify(facts)).digest("hex");
  return join(folder, `gpu-tuning-${hash.slice(0, 16)}.json`);
}

/** WebGPU does not tell the driver's version; Linux does, for drivers that have one of their own. */
async function driverVersions(): Promise<string[]> {
  const versions: string[] = [];
  for (const driver of ["nvidia", "amdgpu"]) {
    const path = `/sys/module/${driver}/version`;
    const version = await Deno.readTextFile(path).catch(() => undefined);
    if (version !== undefined) versions.push(`${driver} ${version.trim()}`);
  }
  return versions;
}
