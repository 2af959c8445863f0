/** Opens the disk cache of one served model, with the identity that its entries are filed under. */
import { join } from "node:path";
import { systemClock } from "@/clock.ts";
import { Archive } from "@/engine/archive.ts";
import { DiskStore } from "@/engine/disk_store.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { Logger } from "@/telemetry/log.ts";
import { modelIdentity } from "./model_identity.ts";

/**
 * `facts` are what may change a number beside the model's files. Throws OperatingError when the
 * folder cannot be used at all; what fails later only costs speed.
 */
export async function openArchive(args: {
  cacheFolder: string | undefined;
  cacheBytesMax: number | undefined;
  modelFolder: string;
  /** Weights are drawn, not read. */
  synthetic: boolean;
  facts: Readonly<Record<string, string | number | boolean>>;
  log: Logger;
}): Promise<Archive | undefined> {
  const { cacheFolder: folder, modelFolder, synthetic, facts, log } = args;
  if (folder === undefined) return undefined;
  const bytesMax = args.cacheBytesMax ?? limits.cacheBytesDefault;
  let store: DiskStore;
  try {
    store = await DiskStore.open({ folder, bytesMax, clock: systemClock, log });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new OperatingError("unavailable", `Cannot use cache folder ${folder}: ${why}`, { cause });
  }
  const memoryPath = join(folder, "flotilla-identities.json");
  const model = await modelIdentity(modelFolder, { memoryPath, log });
  return new Archive(store, JSON.stringify({ model, synthetic, ...facts }));
}
