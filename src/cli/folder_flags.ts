/** Folders that a command needs: one model to read, one place to write. */
import { type Flags, UsageError } from "./flags.ts";

/** `--out`. Throws UsageError when it is missing. */
export function outFolder(flags: Flags): string {
  const out = flags.string("out");
  if (out === undefined) throw new UsageError("--out is missing, expected a folder to write");
  return out;
}

/** The one `--model`; `expected` says what for. Throws UsageError for none and for several. */
export function onlyModel(flags: Flags, expected: string): string {
  const [model, second] = flags.list("model");
  if (model !== undefined && second === undefined) return model;
  throw new UsageError(`--model is needed once, expected ${expected}`);
}
