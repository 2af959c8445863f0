/**
 * What one engine step does, as plain data: the scheduler writes it, the runner executes it,
 * telemetry reads it. Row numbers count from the start of the step.
 */
import type { WholePicture } from "./request.ts";
import type { SampledRow, SamplingRow } from "@/sampling/sampler.ts";

/** A tile to encode into a slot of the vision cache before the rows run. */
export interface PlannedTile {
  readonly hash: string;
  readonly slot: number;
  /** u8 [tileSize, tileSize, 3], or [height, width, 3] of a whole picture. */
  readonly pixels: Uint8Array;
  readonly picture?: WholePicture;
}

/** Visual tokens [sourceRow, sourceRow + rowCount) of a slot that replace rows of the step. */
export interface PlannedSplice {
  readonly slot: number;
  readonly sourceRow: number;
  readonly stepRow: number;
  readonly rowCount: number;
}

/** Consecutive tokens of one sequence. */
export interface PlannedChunk {
  readonly sequenceId: number;
  /** Position of the first row. */
  readonly start: number;
  readonly tokenIds: readonly number[];
  /** Pages of the sequence up to and including this chunk. */
  readonly pages: readonly number[];
  /** First entry of `Plan.logitRows` that belongs to this chunk. */
  readonly firstLogitRow: number;
  /** Prompt positions that are scored here. */
  readonly scoreCount: number;
  /** Whether the next token is drawn after the last known one, and one more after each draft. */
  readonly draws: boolean;
  /** How many of the last `tokenIds` are drafts: guesses of what the draws before them give. */
  readonly draftCount: number;
}

/** A row of the step whose logits are wanted. */
export interface PlannedLogitRow {
  readonly stepRow: number;
  readonly sampling: SamplingRow;
}

/**
 * Steps that follow a plan without waiting for its results: every chunk of it draws one token, and
 * each of these steps computes what the step before drew. Entries are in the order of the chunks.
 */
export interface PlannedAhead {
  readonly steps: number;
  /** Pages with room for the tokens to come. */
  readonly pages: readonly (readonly number[])[];
  /** First position that has no slot any more. */
  readonly slotEnds: readonly number[];
  /** What each step does with its logits: [steps][chunks]. */
  readonly sampling: readonly (readonly SamplingRow[])[];
}

export interface Plan {
  readonly stepIndex: number;
  readonly tiles: readonly PlannedTile[];
  readonly chunks: readonly PlannedChunk[];
  readonly splices: readonly PlannedSplice[];
  readonly logitRows: readonly PlannedLogitRow[];
  readonly rowCount: number;
  readonly ahead?: PlannedAhead;
}

export interface StepResult {
  /** One per entry of `Plan.logitRows`. */
  readonly rows: readonly SampledRow[];
}
