/** What the engines that we are compared with have in common. */
import { OperatingError } from "@/errors.ts";
import type { Clock } from "@/clock.ts";
import type { ModelConfig } from "@/model/config.ts";
import type { Samples } from "../report.ts";

export const peerNames = ["llama.cpp", "wllama", "onnxruntime-web"] as const;
export type PeerName = (typeof peerNames)[number];

/** What a peer measures with. */
export interface PeerContext {
  /** Holds model files of gigabytes and installed peers, and is kept between runs. */
  readonly cacheFolder: string;
  readonly threads: number;
  readonly repeats: number;
  readonly clock: Clock;
  /** One line of what is going on. */
  readonly progress: (text: string) => void;
}

/** What is measured, and how our own row of the same thing is called. */
export interface PeerTask {
  /** Name of the shape, e.g. "1.7b": part of file names. */
  readonly shape: string;
  readonly config: ModelConfig;
  readonly format: "q4" | "q8";
}

/** Speed of one thing, in the unit of our row; `of` begins its name, e.g. "prefill". */
export interface PeerResult {
  readonly of: "prefill" | "tile";
  readonly samples: Samples;
  readonly note?: string;
}

/** A peer that has opened a task. */
export interface PeerRun extends AsyncDisposable {
  /** What is measured once, before our own rows. */
  measure(): Promise<readonly PeerResult[]>;
  /** Answer tokens per second, once: taken between our own samples. */
  readonly decode?: () => Promise<number>;
  /** What the row of `decode` must say. */
  readonly decodeNote?: string;
}

export interface Peer {
  readonly name: PeerName;
  /** Throws OperatingError that says how to get what is missing. */
  check(context: PeerContext): Promise<void>;
  open(context: PeerContext, task: PeerTask): Promise<PeerRun>;
}

/** The error of a peer that is not installed. */
export function missingPeer(name: string, remedy: string): OperatingError {
  return new OperatingError("unavailable", `Cannot compare with ${name}: ${remedy}`);
}

export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
