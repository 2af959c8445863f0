/**
 * A small model that guesses what the large one will draw: it has its own KV pages and draws with
 * the same rules and the same numbers, so that it often says the same. Prompts reach it late and in
 * pieces; pictures it does not see, their places are ordinary tokens to it. Its state may be thrown
 * away at any time: guesses decide how fast an answer comes, never what it says.
 */
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import type { KvFormat } from "@/kernels/backend.ts";
import type { LanguageModel } from "@/model/language_model.ts";
import { drawingRows } from "./draws.ts";
import { KvPages } from "./kv_pages.ts";
import type { PlannedChunk, PlannedLogitRow } from "./plan.ts";
import { Runner } from "./runner.ts";
import type { Sequence } from "./sequence.ts";
import type { DraftWant, ModelDrafts } from "./speculation.ts";

/** Weight of the newest measurement of a round's time. */
const NEWEST = 0.25;

/** What the model has computed of one sequence. */
interface Followed {
  readonly sequence: Sequence;
  readonly pages: number[];
  /** Tokens whose keys and values are in the pages, guesses included. */
  computed: number;
  /** Guesses among them: tokens from `start` on, which may turn out wrong. */
  guesses: { start: number; ids: readonly number[] };
}

/** One sequence in a call of `propose`. */
interface Drafting {
  readonly followed: Followed;
  readonly count: number;
  readonly ids: number[];
}

export class DraftModel {
  readonly #runner: Runner;
  readonly #pages: KvPages;
  readonly #pageTokens: number;
  readonly #vocabularySize: number;
  readonly #contextTokens: number;
  readonly #rowsMax: number;
  readonly #endTokenIds: ReadonlySet<number>;
  readonly #clock: Clock;
  /** Least recently used first. */
  readonly #followed = new Map<Sequence, Followed>();
  #roundMs: number | undefined;
  #stepIndex = 0;

  /** `allowed` is the mask of ids that may be drawn; `rowsMax` bounds the rows of one round. */
  constructor(args: {
    model: LanguageModel;
    kv: { format: KvFormat; pages: number; pageTokens: number };
    allowed: Int32Array;
    rowsMax: number;
    endTokenIds: readonly number[];
    clock: Clock;
  }) {
    const { model, kv, allowed } = args;
    this.#runner = new Runner({ model, kv, allowed });
    this.#pages = new KvPages(kv.pages);
    this.#pageTokens = kv.pageTokens;
    this.#vocabularySize = model.vocabularySize;
    this.#contextTokens = Math.min(model.contextTokensMax, kv.pages * kv.pageTokens);
    this.#rowsMax = args.rowsMax;
    this.#endTokenIds = new Set(args.endTokenIds);
    this.#clock = args.clock;
  }

  /** Mean time of drafting one token for all sequences at once; undefined until it was measured. */
  get roundMs(): number | undefined {
    return this.#roundMs;
  }

  /**
   * Guesses by sequence id; a sequence whose known tokens are not all computed yet gets none. Computes
   * at most `rows` tokens of them in this call.
   */
  async propose(wants: readonly DraftWant[], rows: number): Promise<ModelDrafts> {
    const drafting = wants.map((want) => this.#follow(want)).filter((one) => one !== undefined);
    let ready = await this.#catchUp(drafting, Math.min(rows, this.#rowsMax));
    while (ready.length > 0) {
      const startMs = this.#clock.nowMs();
      ready = await this.#round(ready.map((one) => ({ one, end: knownEnd(one) })));
      this.#observe(this.#clock.nowMs() - startMs);
    }
    for (const { followed, ids } of drafting) {
      followed.guesses = { start: followed.sequence.wanted, ids };
    }
    return new Map(
      drafting.filter(({ ids }) => ids.length > 0)
        .map(({ followed, ids }) => [followed.sequence.id, ids]),
    );
  }

  close(): void {
    this.#runner.close();
  }

  /** Finds or makes a sequence's state, with slots for what is wanted; undefined without room. */
  #follow({ sequence, count }: DraftWant): Drafting | undefined {
    const tokens = sequence.wanted + count;
    if (tokens > this.#contextTokens) return undefined;
    const guesses = { start: 0, ids: [] };
    const followed = this.#followed.get(sequence) ?? { sequence, pages: [], computed: 0, guesses };
    // The newest entry is the last one to be given up.
    this.#followed.delete(sequence);
    this.#followed.set(sequence, followed);
    settle(followed);
    while (followed.pages.length * this.#pageTokens < tokens) {
      const page = this.#pages.allocate() ?? this.#giveUpOldest(followed);
      if (page === undefined) return undefined;
      followed.pages.push(page);
    }
    return { followed, count, ids: [] };
  }

  /** Forgets the least recently used sequence beside `kept` and takes one of its pages. */
  #giveUpOldest(kept: Followed): number | undefined {
    const [oldest] = this.#followed.values();
    if (oldest === undefined || oldest === kept) return undefined;
    this.#followed.delete(oldest.sequence);
    for (const page of oldest.pages) this.#pages.release(page);
    oldest.pages.length = 0;
    oldest.computed = 0;
    return this.#pages.allocate();
  }

  /** Computes known tokens; the sequences that have them all draw their first guess. */
  async #catchUp(drafting: readonly Drafting[], rows: number): Promise<Drafting[]> {
    const parts: { one: Drafting; end: number }[] = [];
    let left = rows;
    for (const one of drafting) {
      const { pages, computed, sequence } = one.followed;
      if (pages.length === 0) continue; // given up for a later one of this call
      const end = Math.min(sequence.wanted, computed + left);
      if (end === computed) continue;
      parts.push({ one, end });
      left -= end - computed;
    }
    return parts.length === 0 ? [] : await this.#round(parts);
  }

  /** Computes tokens up to `end`; who then knows all draws a guess. Returns who goes on. */
  async #round(parts: readonly { one: Drafting; end: number }[]): Promise<Drafting[]> {
    const chunks: PlannedChunk[] = [];
    const logitRows: PlannedLogitRow[] = [];
    const drawing: Drafting[] = [];
    let rowCount = 0;
    for (const { one, end } of parts) {
      const { followed: { sequence, computed, pages }, ids } = one;
      const draws = end === knownEnd(one);
      const known = [...sequence.tokenIds(Math.min(computed, sequence.wanted), sequence.wanted)];
      const tokenIds = [...known, ...ids.slice(Math.max(0, computed - sequence.wanted))]
        .slice(0, end - computed)
        .map((id) => id < this.#vocabularySize ? id : 0);
      chunks.push({
        sequenceId: sequence.id,
        start: computed,
        tokenIds,
        pages: pages.slice(0, Math.ceil(end / this.#pageTokens)),
        firstLogitRow: logitRows.length,
        scoreCount: 0,
        draws,
        draftCount: 0,
      });
      rowCount += tokenIds.length;
      if (!draws) continue;
      const row = drawingRows(sequence, { drafts: ids, endTokenIds: this.#endTokenIds }).at(-1)!;
      logitRows.push({ stepRow: rowCount - 1, sampling: { ...row, candidates: 0 } });
      drawing.push(one);
    }
    const plan = { tiles: [], chunks, splices: [], logitRows, rowCount };
    const result = await this.#runner.run({ stepIndex: this.#stepIndex++, ...plan });
    for (const { one, end } of parts) one.followed.computed = end;
    for (const [index, one] of drawing.entries()) one.ids.push(result.rows[index]!.id);
    return drawing.filter(({ ids, count }) => ids.length < count && ids.at(-1)! >= 0);
  }

  #observe(ms: number): void {
    this.#roundMs = this.#roundMs === undefined
      ? ms
      : this.#roundMs + NEWEST * (ms - this.#roundMs);
  }
}

/** Where the tokens known or guessed so far end. */
function knownEnd({ followed, ids }: Drafting): number {
  return followed.sequence.wanted + ids.length;
}

/** Keeps the guesses that came true; the last known token is always computed again for its draw. */
function settle(followed: Followed): void {
  const { sequence, guesses: { start, ids } } = followed;
  assert(start <= sequence.wanted, "a sequence never gets shorter");
  const real = sequence.tokenIds(start, Math.min(start + ids.length, sequence.wanted));
  const wrong = real.findIndex((id, index) => id !== ids[index]);
  const right = start + (wrong < 0 ? real.length : wrong);
  followed.computed = Math.min(followed.computed, right, sequence.wanted - 1);
  followed.guesses = { start: sequence.wanted, ids: [] };
}
