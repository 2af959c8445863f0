/** `train grow`: a deeper or wider model that answers as the one it was made of. */
import { readModelFolder, writeModelFolder } from "@/training/making/model_folder.ts";
import { growSize } from "@/training/making/size_growth.ts";
import { type Flags, UsageError } from "./flags.ts";
import { onlyModel, outFolder } from "./folder_flags.ts";
import { printLine } from "./terminal.ts";

export async function growModel(flags: Flags): Promise<number> {
  const model = onlyModel(flags, "the model to grow");
  const out = outFolder(flags);
  const sizes = {
    visionLayers: flags.number("vision-layers"),
    visionMlp: flags.number("vision-mlp"),
    decoderLayers: flags.number("decoder-layers"),
    decoderMlp: flags.number("decoder-mlp"),
  };
  if (Object.values(sizes).every((size) => size === undefined)) {
    throw new UsageError(
      "Say what grows: --vision-layers, --vision-mlp, --decoder-layers, --decoder-mlp",
    );
  }
  const grown = await growSize(await readModelFolder(model), sizes, flags.number("seed") ?? 1);
  await writeModelFolder(out, grown, "F32");
  const { vision, decoder } = grown.config;
  const of = ({ layers, intermediateWidth }: { layers: number; intermediateWidth: number }) =>
    `${layers} layers with MLPs of ${intermediateWidth}`;
  printLine(`${out}: tower of ${of(vision)}, decoder of ${of(decoder)}`);
  return 0;
}
