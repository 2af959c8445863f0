/**
 * Where the weights of a checkpoint come from: `lineage.json`, by which a soup knows whether models
 * descend from one another. A model's id is the hash of its weights as they lie on disk.
 */
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { type Lineage, LINEAGE_FILE } from "./lineage.ts";

/** What the weights were before a run, and what it does to them. */
export interface Origin {
  /** Ids of the models before it, the oldest first, the starting model last. */
  readonly ancestors: readonly string[];
  /** Name of the starting model's folder. */
  readonly model: string;
  readonly recipe: string;
  readonly seed: number;
}

const CHUNK_BYTES = 1 << 20;

/** Id of the weights in a model folder: one hash over its safetensors files in the order of names. */
export async function weightsId(folder: string): Promise<string> {
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name)
    .filter((name) => name.endsWith(".safetensors")).sort();
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (const name of names) {
    using file = await Deno.open(join(folder, name));
    for (let length: number | null; (length = await file.read(chunk)) !== null;) {
      hash.update(chunk.subarray(0, length));
    }
  }
  return `sha256:${hash.digest("hex")}`;
}

/** The origin of a run that starts from a model folder. */
export async function originOf(
  folder: string,
  { recipe, seed }: { recipe: string; seed: number },
): Promise<Origin> {
  const id = await weightsId(folder);
  const known = await readAncestors(folder);
  const ancestors = known.at(-1) === id ? known : [...known, id];
  return { ancestors, model: basename(folder), recipe, seed };
}

async function readAncestors(folder: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(folder, LINEAGE_FILE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  const { ancestors } = JSON.parse(text) as Partial<Lineage>;
  return Array.isArray(ancestors) ? ancestors : [];
}

/** Writes the lineage of new weights beside them. */
export async function writeLineage(
  folder: string,
  { ancestors, ...run }: Origin,
  { weights, steps }: { weights: Uint8Array; steps: number },
): Promise<void> {
  const id = `sha256:${createHash("sha256").update(weights).digest("hex")}`;
  const lineage: Lineage = {
    ancestors: [...ancestors, id],
    run: { ...run, steps },
  };
  await Deno.writeTextFile(join(folder, LINEAGE_FILE), JSON.stringify(lineage, null, 2) + "\n");
}
