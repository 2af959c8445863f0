/** The flags that choose formats of weights, as options of loading. */
import type { Precision, Preset, Quantisation } from "@/weights/precision.ts";
import type { Flags } from "./flags.ts";

/** What `--quant`, `--preset` and `--vision-quant` say; nothing when they are absent. */
export function precisionFlags(flags: Flags): Partial<Precision> {
  const quantisation = flags.string("quant") as Quantisation | undefined;
  const preset = flags.string("preset") as Preset | undefined;
  const vision = flags.string("vision-quant") as Quantisation | undefined;
  return {
    ...(quantisation && { quantisation }),
    ...(preset && { preset }),
    ...(vision && { vision }),
  };
}
