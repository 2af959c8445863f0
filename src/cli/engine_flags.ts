/** Flags that tell the engine how to work: none of them changes a token. */
import type { SpeculationMode } from "@/engine/speculation.ts";
import type { Flags } from "./flags.ts";

/** Options of the engine as far as flags name them. */
export interface EngineFlags {
  readonly speculation?: SpeculationMode;
}

export function engineFlags(flags: Flags): EngineFlags {
  const speculation = flags.string("speculation") as SpeculationMode | undefined;
  return { ...(speculation !== undefined && { speculation }) };
}
