/**
 * The running state of one request and of its choices: tokens, counts, pages. Decisions are made
 * in residency.ts and step_planner.ts, results applied in scheduler.ts.
 */
import { assert } from "@/assert.ts";
import { readsPrompt, TokenHistory } from "@/sampling/adjustments.ts";
import type { CachedPage } from "./prefix_cache.ts";
import type { EngineEvent, GenerationRequest, PromptTile } from "./request.ts";

export type PromptLogprobEntry =
  (EngineEvent & { readonly type: "prompt_logprobs" })["entries"][number];

/** What all choices of a request have in common. */
export class RequestState {
  readonly request: GenerationRequest;
  /** Order of arrival: the lower one is served first. */
  readonly arrival: number;
  readonly pageTokens: number;
  readonly tokensPerTile: number;
  /** Choices that have not finished, in order; the first one computes the prompt. */
  readonly live: Sequence[];
  /** Entries known so far; starts with the null of token 0. Empty unless wanted. */
  readonly scores: PromptLogprobEntry[];
  /** The whole prompt was computed once: the other choices may start from its cached pages. */
  promptComputed = false;
  /** Prompt tokens taken from the prefix cache; known with the first prefill event. */
  cachedTokens = 0;
  /** Prompt tokens that the last prefill event told of. */
  reportedTokens = -1;
  /** The consumer does not read: nothing more is computed until it does. */
  paused = false;
  /** Pages of its prompt are being read from disk: it does not start yet. */
  restoring = false;
  readonly #pageKeys: string[] = [];

  constructor(args: {
    request: GenerationRequest;
    arrival: number;
    firstSequenceId: number;
    pageTokens: number;
    tokensPerTile: number;
  }) {
    const { request } = args;
    this.request = request;
    this.arrival = args.arrival;
    this.pageTokens = args.pageTokens;
    this.tokensPerTile = args.tokensPerTile;
    this.scores = request.promptLogprobs ? [null] : [];
    const promptTokens = new Set(readsPrompt(request.params) ? request.promptIds : []);
    this.live = Array.from({ length: request.choices }, (_, choice) => {
      const history = new TokenHistory(promptTokens);
      const id = args.firstSequenceId + choice;
      const sequence = new Sequence({ id, state: this, choice, history });
      for (const answered of request.answered?.[choice] ?? []) {
        sequence.generated.push(answered);
        history.push(answered);
      }
      return sequence;
    });
  }

  get promptLength(): number {
    return this.request.promptIds.length;
  }

  /** Position of the first prompt row whose logits are still to be scored, or Infinity. */
  get firstUnscoredRow(): number {
    const wanted = this.request.promptLogprobs && this.scores.length < this.promptLength;
    return wanted ? this.scores.length - 1 : Infinity;
  }

  /** Tiles whose spans overlap positions [from, to), as indexes into the request's tiles. */
  *tilesIn(from: number, to: number): Generator<{ index: number; tile: PromptTile }> {
    if (from >= to) return;
    const { tiles } = this.request;
    let [low, high] = [0, tiles.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tileEnd(middle) > from) high = middle;
      else low = middle + 1;
    }
    for (let index = low; index < tiles.length && tiles[index]!.start < to; index++) {
      yield { index, tile: tiles[index]! };
    }
  }

  /** First position after a tile's span. */
  tileEnd(index: number): number {
    const { start, picture } = this.request.tiles[index]!;
    return start + (picture?.tokens ?? this.tokensPerTile);
  }

  /** Key of a page that lies wholly inside the prompt. */
  promptPageKey(pageIndex: number): string {
    const start = pageIndex * this.pageTokens;
    const ids = () => this.request.promptIds.slice(start, start + this.pageTokens);
    return this.#pageKeys[pageIndex] ??= this.pageKey(pageIndex, ids());
  }

  /** What a page holds: its token ids, and which part of which picture stands where in it. */
  pageKey(pageIndex: number, tokenIds: readonly number[]): string {
    const start = pageIndex * this.pageTokens;
    let key = tokenIds.join(",");
    for (const { tile } of this.tilesIn(start, start + this.pageTokens)) {
      key += `|${tile.hash}@${tile.start - start}`;
    }
    return key;
  }
}

/** One sampled continuation. */
export class Sequence {
  readonly id: number;
  readonly state: RequestState;
  readonly choice: number;
  readonly history: TokenHistory;
  readonly generated: number[] = [];
  /** Tokens whose keys and values are in `pages`. */
  computed = 0;
  /** How many of them came from the prefix cache when the sequence last started. */
  cachedTokens = 0;
  /** In sequence order; enough for all tokens that are known when it starts to run. */
  pages: number[] = [];
  /** Cached pages that the first pages are filed as; their count is the depth of the path. */
  cachedPath: CachedPage[] = [];
  /** Tiles held in the vision cache for this sequence: tile index -> slot. */
  readonly pins = new Map<number, number>();
  /** Steps since it last got a row, while it ran and wanted one. */
  idleSteps = 0;
  /** Younger sequences that started while this one waited. */
  overtaken = 0;

  constructor(args: { id: number; state: RequestState; choice: number; history: TokenHistory }) {
    this.id = args.id;
    this.state = args.state;
    this.choice = args.choice;
    this.history = args.history;
  }

  /** Tokens known: prompt and answer. The step that computes the last one draws the next. */
  get wanted(): number {
    return this.state.promptLength + this.generated.length;
  }

  /** Whether it runs the prompt for the whole request. */
  get leads(): boolean {
    return this.state.live[0] === this;
  }

  /** Token ids at positions [from, to). */
  tokenIds(from: number, to: number): number[] {
    assert(from <= to && to <= this.wanted, `tokens [${from}, ${to}) of ${this.wanted}`);
    const { promptIds } = this.state.request;
    const { length } = promptIds;
    const ids = promptIds.slice(Math.min(from, length), Math.min(to, length));
    if (to <= length) return ids;
    return [...ids, ...this.generated.slice(Math.max(0, from - length), to - length)];
  }

  /** Prefix-cache key of a page all of whose tokens are known. */
  pageKey(pageIndex: number): string {
    const { state } = this;
    const end = (pageIndex + 1) * state.pageTokens;
    if (end <= state.promptLength) return state.promptPageKey(pageIndex);
    return state.pageKey(pageIndex, this.tokenIds(end - state.pageTokens, end));
  }

  /** Whether `this` is served before `other`. */
  isOlderThan(other: Sequence): boolean {
    const byArrival = this.state.arrival - other.state.arrival;
    return byArrival !== 0 ? byArrival < 0 : this.choice < other.choice;
  }
}
