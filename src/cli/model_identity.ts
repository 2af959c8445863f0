/**
 * A hash over all files that decide what a model computes: weights and configuration. Hashing
 * gigabytes takes seconds, so results are remembered by path, size, time and inode.
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { limits } from "@/limits.ts";
import { freshSeed } from "@/random.ts";
import type { Logger } from "@/telemetry/log.ts";

const CONFIGURATION = ["config.json", "preprocessor_config.json"];
const CHUNK_BYTES = 1 << 20;

interface Remembered {
  readonly size: number;
  readonly modifiedMs: number;
  readonly inode: number;
  readonly sha256: string;
}

type Memory = Record<string, Remembered>;

/** Hashes the model in `folder`; `memoryPath` is a file where hashes of large files are kept. */
export async function modelIdentity(
  folder: string,
  options: { memoryPath: string; log: Logger },
): Promise<string> {
  const { memoryPath, log } = options;
  const memory = await readMemory(memoryPath);
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name)
    .filter((name) => name.endsWith(".safetensors") || CONFIGURATION.includes(name)).sort();
  const hash = createHash("sha256");
  let isNew = false;
  for (const name of names) {
    const path = resolve(folder, name);
    const { size, mtime, ino } = await Deno.stat(path);
    const facts = { size, modifiedMs: mtime?.getTime() ?? 0, inode: ino ?? 0 };
    const known = memory[path];
    const isKnown = known !== undefined && known.size === facts.size &&
      known.modifiedMs === facts.modifiedMs && known.inode === facts.inode;
    const sha256 = isKnown ? known.sha256 : await hashFile(path);
    isNew ||= !isKnown;
    memory[path] = { ...facts, sha256 };
    hash.update(`${name} ${sha256}\n`);
  }
  if (isNew) await writeMemory(memoryPath, memory, log);
  return hash.digest("hex");
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let length: number | null; (length = await file.read(chunk)) !== null;) {
    hash.update(chunk.subarray(0, length));
  }
  return hash.digest("hex");
}

/** What cannot be read is hashed anew. */
async function readMemory(path: string): Promise<Memory> {
  try {
    const memory: unknown = JSON.parse(await Deno.readTextFile(path));
    const isTable = typeof memory === "object" && memory !== null && !Array.isArray(memory);
    const isSmall = isTable && Object.keys(memory).length < limits.identitiesMax;
    return isSmall ? memory as Memory : {};
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return {};
    throw error;
  }
}

async function writeMemory(path: string, memory: Memory, log: Logger): Promise<void> {
  const aside = join(path, "..", `flotilla-identities-${freshSeed()}`);
  try {
    await Deno.writeTextFile(aside, JSON.stringify(memory));
    await Deno.rename(aside, path);
  } catch (error) {
    log.warn("cannot remember the model's hash: the next start computes it again", { error });
  }
}
