/** Flags that tell the engine how to work: none of them changes a token. */
import type { SpeculationMode } from "@/engine/speculation.ts";
import { type Flags, UsageError } from "./flags.ts";

/** Options of the engine as far as flags name them. */
export interface EngineFlags {
  readonly speculation?: SpeculationMode;
  /** Folder of a smaller checkpoint with the same tokenizer. */
  readonly draftFolder?: string;
}

/** Throws UsageError for flags that need each other. */
export function engineFlags(flags: Flags): EngineFlags {
  const speculation = flags.string("speculation") as SpeculationMode | undefined;
  const draftFolder = flags.string("draft-model");
  if (speculation === "draft" && draftFolder === undefined) {
    throw new UsageError("--speculation draft needs --draft-model DIR");
  }
  return {
    ...(speculation !== undefined && { speculation }),
    ...(draftFolder !== undefined && { draftFolder }),
  };
}
