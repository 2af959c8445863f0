/**
 * Hands out one step's rows. There is no prefill or decode phase: every running sequence has
 * computed and wanted tokens, and gets some of the missing ones. Starved sequences come first, then
 * those that miss one token, with their drafts, then the others by age. A chunk ends before a tile
 * that cannot be encoded in this step.
 */
import { assert } from "@/assert.ts";
import { noAdjustments } from "@/sampling/adjustments.ts";
import type { SamplingRow } from "@/sampling/sampler.ts";
import type { EngineBounds } from "./bounds.ts";
import { drawingRows } from "./draws.ts";
import type { StepAllowance } from "./step_pacer.ts";
import type { EncoderCache } from "./encoder_cache.ts";
import type { Plan, PlannedChunk, PlannedLogitRow, PlannedSplice, PlannedTile } from "./plan.ts";
import type { Sequence } from "./sequence.ts";

/** A starved sequence gets at most this part of a step's rows, so that others go on too. */
const STARVED_SHARE = 1 / 4;

/** Plans one step; pins the tiles it needs and counts who got nothing. */
export class StepPlanner {
  readonly #bounds: EngineBounds;
  readonly #encoder: EncoderCache;
  readonly #endTokenIds: ReadonlySet<number>;
  #stepIndex = 0;
  #visionHits = 0;
  #visionMisses = 0;

  constructor(args: {
    bounds: EngineBounds;
    encoder: EncoderCache;
    endTokenIds: ReadonlySet<number>;
  }) {
    this.#bounds = args.bounds;
    this.#encoder = args.encoder;
    this.#endTokenIds = args.endTokenIds;
  }

  /** Tiles that a prompt needed and found, or had to encode. */
  get visionCounts(): { hits: number; misses: number } {
    return { hits: this.#visionHits, misses: this.#visionMisses };
  }

  /**
   * `running` is sorted by age; all of it has pages for its wanted tokens and for its `drafts` (by
   * sequence id), of which as many are planned as fit beside one row for every other sequence.
   */
  plan(
    running: readonly Sequence[],
    allowance: StepAllowance,
    drafts: ReadonlyMap<number, readonly number[]> = new Map(),
  ): Plan {
    const bounds = { ...this.#bounds, stepTokens: allowance.rows, stepTiles: allowance.tiles };
    const step = new StepBuilder(this.#stepIndex++, bounds);
    const runnable = running.filter((sequence) => !sequence.state.paused);
    const isStarved = (s: Sequence) => s.idleSteps >= this.#bounds.starvedSteps;
    const isLast = (s: Sequence) => s.wanted - s.computed === 1;
    const rest = runnable.filter((sequence) => !isStarved(sequence));
    const share = Math.ceil(bounds.stepTokens * STARVED_SHARE);
    for (const s of runnable.filter(isStarved)) this.#addChunk(step, s, { rowsMax: share });
    const last = rest.filter(isLast);
    for (const [index, s] of last.entries()) {
      const rowsKept = last.length - index - 1;
      this.#addChunk(step, s, { rowsMax: 1, drafts: drafts.get(s.id) ?? [], rowsKept });
    }
    for (const s of rest) if (!isLast(s)) this.#addChunk(step, s, { rowsMax: Infinity });
    return step.plan;
  }

  #addChunk(step: StepBuilder, sequence: Sequence, options: {
    rowsMax: number;
    drafts?: readonly number[];
    /** Rows that must be left for others. */
    rowsKept?: number;
  }): void {
    const start = sequence.computed;
    const end = this.#encodeUpTo(step, sequence, step.chunkEnd(sequence, options.rowsMax));
    if (end === start) {
      sequence.idleSteps += 1;
      return;
    }
    sequence.idleSteps = 0;
    const { state } = sequence;
    const scoreStart = Math.max(start, state.firstUnscoredRow);
    const scoreEnd = Math.max(scoreStart, Math.min(end, state.promptLength - 1));
    const scores: PlannedLogitRow[] = [];
    for (let row = scoreStart; row < scoreEnd; row++) {
      scores.push({ stepRow: step.rowCount + row - start, sampling: scoringRow(sequence, row) });
    }
    const draws = end === sequence.wanted && state.request.params.maxTokens > 0;
    const { drafts: offered = [], rowsKept = 0 } = options;
    const drafts = draws ? offered.slice(0, step.draftRows(sequence, { end, rowsKept })) : [];
    const rows = draws ? drawingRows(sequence, { drafts, endTokenIds: this.#endTokenIds }) : [];
    const firstDraw = step.rowCount + end - 1 - start;
    const logitRows = [
      ...scores,
      ...rows.map((sampling, index) => ({ stepRow: firstDraw + index, sampling })),
    ];
    step.add(sequence, { end, logitRows, scoreCount: scores.length, draws, drafts });
  }

  /** Pins the tiles of [computed, end), encoding new ones; returns where the chunk must end. */
  #encodeUpTo(step: StepBuilder, sequence: Sequence, end: number): number {
    for (const { index, tile } of sequence.state.tilesIn(sequence.computed, end)) {
      if (sequence.pins.has(index)) continue;
      const isNew = !this.#encoder.has(tile.hash);
      const slot = isNew && step.tilesLeft === 0 ? undefined : this.#encoder.acquire(tile.hash);
      if (slot === undefined) return Math.max(sequence.computed, tile.start);
      sequence.pins.set(index, slot);
      if (isNew) {
        const { hash, pixels, picture } = tile;
        step.addTile({ hash, slot, pixels, ...(picture && { picture }) });
        this.#visionMisses += 1;
      } else this.#visionHits += 1;
    }
    return end;
  }
}

/** The row at a prompt position, read for the log-probability of the prompt token that follows. */
function scoringRow(sequence: Sequence, position: number): SamplingRow {
  const { request } = sequence.state;
  return {
    params: request.params,
    uniform: 0,
    forcedId: request.promptIds[position + 1],
    adjustments: noAdjustments,
    candidates: request.params.topLogprobs ?? 0,
  };
}

/** A plan in the making, and what is left of the step's budgets. */
class StepBuilder {
  readonly #bounds: EngineBounds;
  readonly #stepIndex: number;
  readonly #tiles: PlannedTile[] = [];
  readonly #chunks: PlannedChunk[] = [];
  readonly #splices: PlannedSplice[] = [];
  readonly #logitRows: PlannedLogitRow[] = [];
  #rowCount = 0;
  #scoresLeft: number;
  #attentionLeft: number;

  constructor(stepIndex: number, bounds: EngineBounds) {
    this.#stepIndex = stepIndex;
    this.#bounds = bounds;
    this.#scoresLeft = bounds.stepScores;
    this.#attentionLeft = bounds.stepAttention;
  }

  get rowCount(): number {
    return this.#rowCount;
  }

  get tilesLeft(): number {
    return this.#bounds.stepTiles - this.#tiles.length;
  }

  get plan(): Plan {
    return {
      stepIndex: this.#stepIndex,
      tiles: this.#tiles,
      chunks: this.#chunks,
      splices: this.#splices,
      logitRows: this.#logitRows,
      rowCount: this.#rowCount,
    };
  }

  /** Where a chunk of at most `rowsMax` rows ends under the budgets that remain. */
  chunkEnd(sequence: Sequence, rowsMax: number): number {
    const { computed: start, wanted, state } = sequence;
    const rowsLeft = this.#bounds.stepTokens - this.#rowCount;
    let rows = Math.min(wanted - start, rowsLeft, rowsMax);
    // One row goes always, whatever its context: a decode step, or the first of a long prompt.
    const isFirst = this.#rowCount === 0 || rowsMax === 1;
    rows = Math.min(rows, Math.max(isFirst ? 1 : 0, this.#attentionRows(start)));
    const firstScore = Math.max(start, state.firstUnscoredRow);
    if (firstScore + this.#scoresLeft < state.promptLength - 1) {
      rows = Math.min(rows, firstScore + this.#scoresLeft - start);
    }
    return start + rows;
  }

  /** How many drafts fit after a chunk that ends at `end`, beside `rowsKept` rows of others. */
  draftRows(sequence: Sequence, options: { end: number; rowsKept: number }): number {
    const { computed: start } = sequence;
    const rows = options.end - start;
    const rowsLeft = this.#bounds.stepTokens - this.#rowCount - rows - options.rowsKept;
    return Math.max(0, Math.min(rowsLeft, this.#attentionRows(start) - rows));
  }

  addTile(tile: PlannedTile): void {
    this.#tiles.push(tile);
  }

  add(sequence: Sequence, chunk: {
    end: number;
    logitRows: readonly PlannedLogitRow[];
    scoreCount: number;
    draws: boolean;
    drafts: readonly number[];
  }): void {
    const { computed: start, state } = sequence;
    const { end, scoreCount, draws, drafts } = chunk;
    const draftedEnd = end + drafts.length;
    const pageCount = Math.ceil(draftedEnd / this.#bounds.pageTokens);
    assert(pageCount <= sequence.pages.length, `sequence ${sequence.id} lacks pages`);
    for (const { index, tile } of state.tilesIn(start, end)) {
      const from = Math.max(start, tile.start);
      this.#splices.push({
        slot: sequence.pins.get(index)!,
        sourceRow: from - tile.start,
        stepRow: this.#rowCount + from - start,
        rowCount: Math.min(end, state.tileEnd(index)) - from,
      });
    }
    this.#chunks.push({
      sequenceId: sequence.id,
      start,
      tokenIds: [...sequence.tokenIds(start, end), ...drafts],
      pages: sequence.pages.slice(0, pageCount),
      firstLogitRow: this.#logitRows.length,
      scoreCount,
      draws,
      draftCount: drafts.length,
    });
    this.#logitRows.push(...chunk.logitRows);
    this.#rowCount += draftedEnd - start;
    this.#scoresLeft -= scoreCount;
    this.#attentionLeft -= attentionWork(start, draftedEnd);
  }

  /** The most rows from `start` whose attention fits what is left. */
  #attentionRows(start: number): number {
    // rows * start + rows * (rows + 1) / 2 <= left, solved for rows.
    const half = start + 0.5;
    return Math.floor(Math.sqrt(half * half + 2 * Math.max(0, this.#attentionLeft)) - half);
  }
}

/** Key-value pairs read by rows [start, end) of one sequence. */
function attentionWork(start: number, end: number): number {
  return (end * (end + 1) - start * (start + 1)) / 2;
}
