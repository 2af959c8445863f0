/** The file of API keys: one per line. */
import { UsageError } from "./flags.ts";

/** Undefined without a path; throws UsageError when the file is missing or empty. */
export async function readKeys(path: string | undefined): Promise<string[] | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UsageError(`--api-key-file ${path} is not there`);
  }
  const keys = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  if (keys.length === 0) throw new UsageError(`--api-key-file ${path} holds no key`);
  return keys;
}
