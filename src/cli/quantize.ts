/** `quantize`: a checkpoint in Hugging Face layout becomes a packed folder. */
import { systemClock } from "@/clock.ts";
import { openBackend } from "@/kernels/open.ts";
import { packModel } from "@/model/packing.ts";
import { precisionLabel, precisionOf } from "@/weights/precision.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { backendFlags } from "./backend_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { outFolder } from "./folder_flags.ts";
import { precisionFlags } from "./precision_flags.ts";
import { ProgressLine } from "./progress_line.ts";
import { quantizeTable, sizeText } from "./quantize_table.ts";
import { modelFolders } from "./serve.ts";
import { printError, printLine } from "./terminal.ts";

const MIB = 1024 * 1024;

export async function quantize(flags: Flags): Promise<number> {
  const out = outFolder(flags);
  const precision = precisionOf(precisionFlags(flags));
  if (precision.quantisation === "none" && precision.vision === "none") {
    throw new UsageError("--quant is missing, expected q8 or q4");
  }
  const [model, another] = modelFolders(flags);
  if (another) throw new UsageError("--model is given twice, expected one checkpoint");
  const partMib = flags.number("part-mib");
  const backend = await openBackend(backendFlags(flags));
  try {
    const { weights, manifest, parts, partsKept } = await packModel({
      folder: diskFolder(model!.folder),
      out,
      backend,
      precision,
      synthetic: flags.on("synthetic"),
      ...(partMib !== undefined && { partBytes: partMib * MIB }),
      onProgress: new ProgressLine("packing", systemClock).update,
    });
    if (partsKept > 0) printError(`kept ${partsKept} of ${parts} files of an earlier run`);
    const sizeBytes = weights.reduce((sum, weight) => sum + weight.sizeBytes, 0);
    const bits = (8 * sizeBytes / manifest.parameters).toFixed(2);
    printLine(quantizeTable(weights));
    printLine(
      `\n${out}: ${precisionLabel(precision)}, ${manifest.parameters} parameters in ` +
        `${sizeText(sizeBytes)} (${bits} bits each)`,
    );
    return 0;
  } finally {
    await backend.close();
  }
}
