/** `train merge`: low-rank additions become part of a model's weights. */
import { systemClock } from "@/clock.ts";
import { mergeIntoModel } from "@/training/adapter_merge.ts";
import { type Flags, UsageError } from "./flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";

export async function mergeAdapter(flags: Flags): Promise<number> {
  const [model, second] = flags.list("model");
  const adapter = flags.string("adapter");
  const out = flags.string("out");
  if (model === undefined || second !== undefined) {
    throw new UsageError("--model is needed once, expected the model that was adapted");
  }
  if (adapter === undefined) throw new UsageError("--adapter is missing, expected its folder");
  if (out === undefined) throw new UsageError("--out is missing, expected a folder to write");
  const onProgress = new ProgressLine("merging", systemClock).update;
  const count = await mergeIntoModel({ model, adapter, out, onProgress });
  printLine(`${out}: ${model} with additions to ${count} matrices`);
  return 0;
}
