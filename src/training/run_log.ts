/**
 * The log of a run: one JSON line for each step that was computed. What both kinds of training and
 * the report agree on stands in `StepRecord`; fields that only one of them has are optional.
 */
import { join } from "node:path";
import type { RateDecision } from "./control/adaptive_rate.ts";
import type { StepCueLosses } from "./cues.ts";

export const LOG_FILE = "log.jsonl";

/** Something that the model said, for people to read. */
export interface Completion {
  readonly task: string;
  readonly question: string;
  /** With a thought in its tags when it thinks. */
  readonly answer: string;
  readonly expected?: string;
  /** Of reinforcement; null: could not be judged. */
  readonly reward?: number | null;
  readonly right?: boolean;
}

/** What a step of any kind of training knows of itself. */
export interface StepFigures {
  readonly loss: number;
  /** Rate of the step, before factors of parts. */
  readonly rate: number;
  /** Global norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Mean entropy of the scored rows, in nats. */
  readonly entropy: number;
  /** Load balance of the experts; missing for dense models. */
  readonly balance?: number | undefined;
  /** Mean loss of each kind of cue, by the place where it is asked. */
  readonly cueLosses?: StepCueLosses;
  readonly rows: number;
  readonly scoredTokens: number;
  /** What AdaLRS decided after the step. */
  readonly decision?: RateDecision;
  /** Level of the curriculum for samples drawn from now on. */
  readonly level?: number;
  /** Share of answers that greedy decoding would give, every token of them; not in every step. */
  readonly accuracy?: number;
  /** The same by task: [right, all]. */
  readonly accuracyByTask?: Readonly<Record<string, readonly [number, number]>>;
  /** Mean reward of all judged answers, its deviation, and means of its parts by their name. */
  readonly reward?: number;
  readonly rewardDeviation?: number;
  readonly rewardParts?: Readonly<Record<string, number>>;
  /** Share of tokens whose ratio was clipped. */
  readonly clipFraction?: number;
  /** Estimate of the divergence from the policy that answered. */
  readonly approximateKl?: number;
  /** Mean length of the answers in tokens, and the longest. */
  readonly answerTokens?: number;
  readonly answerTokensMax?: number;
  /** Share of answers that were cut. */
  readonly truncatedShare?: number;
  /** Share of groups that taught nothing and were left out. */
  readonly droppedShare?: number;
  /** Groups that were asked, and those of them that the updates learnt from. */
  readonly groupsAsked?: number;
  readonly groupsKept?: number;
  /** Share of questions that at least one answer got right. */
  readonly passRate?: number;
  /** Share of answers that could not be judged. */
  readonly unjudgedShare?: number;
  /** Updates of the policy in the step; 0 when no group taught anything. */
  readonly updates?: number;
  /** Mean distance of the engine's log probabilities from the trainer's for the same weights. */
  readonly samplingDrift?: number;
  /** Part of the step's time that the answers took. */
  readonly answerSeconds?: number;
  /** Of the first step: questions that the difficulty filter looked at, and why it dropped some. */
  readonly difficulty?: {
    readonly kept: number;
    readonly examined: number;
    readonly tooEasy: number;
    readonly tooHard: number;
  };
  readonly completions?: readonly Completion[];
}

/** One line of the log. */
export interface StepRecord extends StepFigures {
  /** From 1; falls back where AdaLRS takes steps back. */
  readonly step: number;
  /** Steps computed so far, also those taken back: never falls. */
  readonly computed: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  readonly secondsLeft: number;
}

export async function appendRecord(folder: string, record: StepRecord): Promise<void> {
  const line = JSON.stringify(record) + "\n";
  await Deno.writeTextFile(join(folder, LOG_FILE), line, { append: true });
}

/** All complete lines; none when there is no log. */
export async function readLog(folder: string): Promise<StepRecord[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(folder, LOG_FILE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  // The last line of a killed run may be cut.
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as StepRecord);
}

/** Leaves the lines of the first `computed` steps: what came after the checkpoint comes again. */
export async function cutLog(folder: string, computed: number): Promise<void> {
  const records = await readLog(folder);
  const kept = records.filter((record) => record.computed <= computed);
  const path = join(folder, LOG_FILE);
  const lines = kept.map((record) => JSON.stringify(record) + "\n");
  await Deno.writeTextFile(`${path}.partial`, lines.join(""));
  await Deno.rename(`${path}.partial`, path);
}
