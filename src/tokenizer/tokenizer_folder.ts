/** Tokenizers of checkpoint folders on disk. */
import { OperatingError } from "@/errors.ts";
import { Tokenizer } from "./tokenizer.ts";

/** Reads the files as `Tokenizer.load` wants them; throws like it. */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  return await Tokenizer.load((name) => readIfPresent(folder, name));
}

async function readIfPresent(folder: string, name: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(`${folder}/${name}`);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new OperatingError("checkpoint_invalid", `Cannot read ${folder}/${name}: ${problem}`, {
      cause,
    });
  }
}
