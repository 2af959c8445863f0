/** Flags that tell the engine how to work: none of them changes a token. */
import type { SpeculationMode } from "@/engine/speculation.ts";
import { type Flags, UsageError } from "./flags.ts";

/** Options of the engine as far as flags name them. */
export interface EngineFlags {
  readonly speculation?: SpeculationMode;
  /** Folder of a smaller checkpoint with the same tokenizer. */
  readonly draftFolder?: string;
  /** Where KV pages and encoded tiles outlive the process. */
  readonly cacheFolder?: string;
  readonly cacheBytesMax?: number;
  /** Wall time of one answer, waiting included; Infinity = no bound. */
  readonly generationMs?: number;
}

/** Throws UsageError for flags that need each other. */
export function engineFlags(flags: Flags): EngineFlags {
  const speculation = flags.string("speculation") as SpeculationMode | undefined;
  const draftFolder = flags.string("draft-model");
  const cacheFolder = flags.string("cache-dir");
  const cacheBytesMax = flags.number("cache-size");
  const seconds = flags.number("answer-seconds");
  if (speculation === "draft" && draftFolder === undefined) {
    throw new UsageError("--speculation draft needs --draft-model DIR");
  }
  if (cacheBytesMax !== undefined && cacheFolder === undefined) {
    throw new UsageError("--cache-size needs --cache-dir DIR");
  }
  return {
    ...(speculation !== undefined && { speculation }),
    ...(draftFolder !== undefined && { draftFolder }),
    ...(cacheFolder !== undefined && { cacheFolder }),
    ...(cacheBytesMax !== undefined && { cacheBytesMax }),
    ...(seconds !== undefined && { generationMs: seconds === 0 ? Infinity : seconds * 1000 }),
  };
}
