/** `train merge`: low-rank additions become part of a model's weights. */
import { systemClock } from "@/clock.ts";
import { mergeIntoModel } from "@/training/adapter_merge.ts";
import { type Flags, UsageError } from "./flags.ts";
import { onlyModel, outFolder } from "./folder_flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { printLine } from "./terminal.ts";

export async function mergeAdapter(flags: Flags): Promise<number> {
  const model = onlyModel(flags, "the model that was adapted");
  const adapter = flags.string("adapter");
  if (adapter === undefined) throw new UsageError("--adapter is missing, expected its folder");
  const out = outFolder(flags);
  const onProgress = new ProgressLine("merging", systemClock).update;
  const count = await mergeIntoModel({ model, adapter, out, onProgress });
  printLine(`${out}: ${model} with additions to ${count} matrices`);
  return 0;
}
