/**
 * Which sequences hold KV pages: admission, growth, preemption, release. Admission is by pages for
 * all tokens known so far, in order of arrival; a sequence that does not fit yet may be overtaken a
 * bounded number of times, then younger ones make room. Preempted sequences keep their tokens and
 * compute them again later. Knows nothing of steps.
 */
import { assert } from "@/assert.ts";
import type { EngineBounds } from "./bounds.ts";
import type { EncoderCache } from "./encoder_cache.ts";
import type { CachedPage, PrefixCache } from "./prefix_cache.ts";
import type { Sequence } from "./sequence.ts";

export class Residency {
  /** Sequences with pages, oldest first. */
  readonly running: Sequence[] = [];
  /** Sequences without pages, oldest first. */
  readonly waiting: Sequence[] = [];
  readonly cache: PrefixCache;
  readonly encoder: EncoderCache;
  readonly #bounds: EngineBounds;
  /** Cached pages that sequences filed or took, parents first; undefined unless somebody asks. */
  readonly #used: CachedPage[] | undefined;
  #preemptions = 0;

  /** With `recordsUse`, `takeUsed` must be called after every step. */
  constructor(args: {
    cache: PrefixCache;
    encoder: EncoderCache;
    bounds: EngineBounds;
    recordsUse?: boolean;
  }) {
    this.#used = args.recordsUse ? [] : undefined;
    this.cache = args.cache;
    this.encoder = args.encoder;
    this.#bounds = args.bounds;
  }

  get preemptions(): number {
    return this.#preemptions;
  }

  /** Cached pages that were filed or taken since the last call. */
  takeUsed(): CachedPage[] {
    return this.#used?.splice(0) ?? [];
  }

  add(sequence: Sequence): void {
    insertByAge(this.waiting, sequence);
  }

  /** Forgets a sequence; its pages and pins are free at once. */
  remove(sequence: Sequence): void {
    if (removeFrom(this.running, sequence)) this.#release(sequence);
    else assert(removeFrom(this.waiting, sequence), `sequence ${sequence.id} is not here`);
  }

  /** Gives every running sequence pages for its known tokens, taking them from younger ones. */
  grow(): void {
    for (const sequence of this.running) this.#returnSurplus(sequence);
    for (const sequence of [...this.running]) {
      if (sequence.state.paused) continue;
      while (this.running.includes(sequence) && this.#missingPages(sequence) > 0) {
        const page = this.cache.allocate();
        if (page !== undefined) sequence.pages.push(page);
        else this.#preempt(this.#victim());
      }
    }
  }

  /**
   * How many drafts after its known tokens a sequence has slots for, at most `count`. Takes pages
   * only while the other sequences can grow; `grow` takes back what rejected drafts leave over.
   */
  reserve(sequence: Sequence, count: number): number {
    const { pageTokens } = this.#bounds;
    const { pages, wanted } = sequence;
    while (
      pages.length * pageTokens < wanted + count && this.cache.availableCount > this.running.length
    ) {
      const page = this.cache.allocate();
      assert(page !== undefined, "an available page is not there");
      pages.push(page);
    }
    return Math.min(count, pages.length * pageTokens - wanted);
  }

  /** Starts waiting sequences while there is room. */
  admit(): void {
    let blocked: Sequence | undefined;
    for (const sequence of [...this.waiting]) {
      if (!mayStart(sequence)) continue;
      if (this.#start(sequence)) {
        if (blocked) blocked.overtaken += 1;
      } else if (blocked !== undefined || !this.#hasFreePlace()) {
        return; // only the oldest blocked one is overtaken, and by those that fit at once
      } else if (sequence.overtaken < this.#bounds.overtakes) {
        blocked = sequence;
      } else if (!this.#forceIn(sequence)) {
        return;
      }
      if (blocked && blocked.overtaken >= this.#bounds.overtakes) return;
    }
  }

  /** Drops a sequence's pins of tiles that lie wholly before a position. */
  unpin(sequence: Sequence, range: { before: number } = { before: Infinity }): void {
    const { state, pins } = sequence;
    for (const index of [...pins.keys()]) {
      if (state.tileEnd(index) > range.before) continue;
      this.encoder.release(state.request.tiles[index]!.hash);
      pins.delete(index);
    }
  }

  /** Files the pages that became full, so that others can use them. */
  fileFullPages(sequence: Sequence): void {
    const { cachedPath, pages } = sequence;
    const full = Math.floor(sequence.computed / this.#bounds.pageTokens);
    for (let index = cachedPath.length; index < full; index++) {
      const key = sequence.pageKey(index);
      const cached = this.cache.insert(cachedPath.at(-1), key, pages[index]!);
      pages[index] = cached.page;
      cachedPath.push(cached);
      this.#used?.push(cached);
    }
  }

  #hasFreePlace(): boolean {
    return this.running.length < this.#bounds.runningSequences;
  }

  #missingPages(sequence: Sequence): number {
    return Math.ceil(sequence.wanted / this.#bounds.pageTokens) - sequence.pages.length;
  }

  /** Gives back pages that were reserved for drafts which came to nothing. */
  #returnSurplus(sequence: Sequence): void {
    const surplus = -this.#missingPages(sequence);
    if (surplus > 0) this.cache.release(sequence.pages.splice(-surplus));
  }

  /** Moves a waiting sequence to the running ones if it fits now. */
  #start(sequence: Sequence, options: { headroom: boolean } = { headroom: true }): boolean {
    if (!this.#hasFreePlace() && !this.#preemptPaused()) return false;
    const path = this.cache.match(this.matchKeys(sequence));
    const needed = this.#missingPages(sequence) - path.length;
    // Room for the next page of those that run, or the newcomer would be preempted soon.
    const headroom = () => options.headroom ? this.running.length : 0;
    while (this.#availableBeside(path) < needed + headroom()) {
      // Their pages stay cached, so the matched path stays valid.
      if (!this.#preemptPaused()) return false;
    }
    removeFrom(this.waiting, sequence);
    insertByAge(this.running, sequence);
    this.#takePages(sequence, path);
    return true;
  }

  #takePages(sequence: Sequence, path: CachedPage[]): void {
    sequence.pages = path.map((cached) => this.cache.retain(cached));
    sequence.cachedPath = path;
    this.#used?.push(...path);
    while (this.#missingPages(sequence) > 0) {
      const page = this.cache.allocate();
      assert(page !== undefined, "admission counted a page that is not there");
      sequence.pages.push(page);
    }
    sequence.computed = sequence.cachedTokens = path.length * this.#bounds.pageTokens;
    sequence.idleSteps = 0;
    sequence.overtaken = 0;
  }

  /** Pages that can be taken while the unused pages of `path` are kept. */
  #availableBeside(path: readonly CachedPage[]): number {
    let unused = 0;
    for (const cached of path) if (this.cache.isUnused(cached)) unused += 1;
    return this.cache.availableCount - unused;
  }

  /** Keys of the pages that need not be computed: never the last token, never unscored rows. */
  *matchKeys(sequence: Sequence): Generator<string> {
    const tokens = Math.min(sequence.wanted - 1, sequence.state.firstUnscoredRow);
    const pages = Math.floor(tokens / this.#bounds.pageTokens);
    for (let index = 0; index < pages; index++) yield sequence.pageKey(index);
  }

  /** Starts an overtaken sequence at the cost of younger ones. */
  #forceIn(sequence: Sequence): boolean {
    while (!this.#start(sequence, { headroom: false })) {
      const youngest = this.running.at(-1);
      if (youngest === undefined || youngest.isOlderThan(sequence)) return false;
      this.#preempt(youngest);
    }
    return true;
  }

  /** Who gives up its pages: a paused sequence, else the youngest. */
  #victim(): Sequence {
    const victim = this.running.findLast((sequence) => sequence.state.paused) ??
      this.running.at(-1);
    assert(victim !== undefined, "no pages left and nothing runs");
    return victim;
  }

  #preemptPaused(): boolean {
    const paused = this.running.findLast((sequence) => sequence.state.paused);
    if (paused) this.#preempt(paused);
    return paused !== undefined;
  }

  #preempt(sequence: Sequence): void {
    const wasRunning = removeFrom(this.running, sequence);
    assert(wasRunning, `sequence ${sequence.id} is preempted but does not run`);
    this.#release(sequence);
    insertByAge(this.waiting, sequence);
    this.#preemptions += 1;
  }

  #release(sequence: Sequence): void {
    this.unpin(sequence);
    this.cache.release(sequence.pages);
    sequence.pages = [];
    sequence.cachedPath = [];
    sequence.computed = 0;
  }
}

/**
 * Other choices wait until the first one has computed the prompt; nobody computes unread tokens, or
 * what is about to come from disk.
 */
function mayStart(sequence: Sequence): boolean {
  const { state } = sequence;
  return !state.paused && !state.restoring && (state.promptComputed || sequence.leads);
}

function insertByAge(list: Sequence[], sequence: Sequence): void {
  const index = list.findIndex((other) => sequence.isOlderThan(other));
  list.splice(index < 0 ? list.length : index, 0, sequence);
}

function removeFrom(list: Sequence[], sequence: Sequence): boolean {
  const index = list.indexOf(sequence);
  if (index >= 0) list.splice(index, 1);
  return index >= 0;
}
