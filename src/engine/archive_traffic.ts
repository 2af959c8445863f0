/**
 * When something goes to the archive and comes back: pages and tiles are copied out between steps,
 * requests wait for what is on disk, and nothing of it ever fails a request. What is looked for is
 * restoration.ts, how it is kept archive.ts.
 */
import { limits } from "@/limits.ts";
import type { Archive } from "./archive.ts";
import type { PlannedTile } from "./plan.ts";
import { findRestorable, restore } from "./restoration.ts";
import type { Runner } from "./runner.ts";
import type { Scheduler } from "./scheduler.ts";
import type { RequestState } from "./sequence.ts";

/** Something that must not happen while a step is in flight. */
interface Errand {
  readonly run: () => void;
  /** There will be no such time any more. */
  readonly drop: () => void;
}

export class ArchiveTraffic {
  readonly #places: { archive: Archive; scheduler: Scheduler; runner: Runner };
  readonly #wake: () => void;
  readonly #onError: (error: unknown) => void;
  readonly #errands: Errand[] = [];
  readonly #restoring = new Set<Promise<void>>();
  #closed = false;

  /** `wake` is called when a request may start, or when there is something to do between steps. */
  constructor(args: {
    archive: Archive;
    scheduler: Scheduler;
    runner: Runner;
    wake: () => void;
    onError: (error: unknown) => void;
  }) {
    this.#places = args;
    this.#wake = args.wake;
    this.#onError = args.onError;
  }

  get counts() {
    return this.#places.archive.counts;
  }

  /** Whether `betweenSteps` has something to put back. */
  get hasErrands(): boolean {
    return this.#errands.length > 0;
  }

  /** Holds a new request back while something of its prompt comes from disk. */
  restore(state: RequestState, isActive: () => boolean): void {
    const found = findRestorable(state, this.#places);
    if (found === undefined) return;
    state.restoring = true;
    const start = () => {
      if (!state.restoring) return;
      state.restoring = false;
      this.#wake();
    };
    const patience = setTimeout(start, limits.cacheRestoreMs);
    const isWanted = () => state.restoring && !this.#closed && isActive();
    const betweenSteps = (run: () => number) => this.#betweenSteps(run);
    const done = restore(state, found, { ...this.#places, isWanted, betweenSteps })
      .catch(this.#onError)
      .finally(() => {
        clearTimeout(patience);
        this.#restoring.delete(done);
        start();
      });
    this.#restoring.add(done);
  }

  /** To be called while no step is in flight: copies out what the last one filled, puts back. */
  async betweenSteps(): Promise<void> {
    const { archive, scheduler, runner } = this.#places;
    const pages = scheduler.takeUsedPages();
    try {
      if (pages.length > 0) await archive.storePages(pages, (page) => runner.readPage(page));
    } catch (error) {
      this.#onError(error);
    }
    for (const { run } of this.#errands.splice(0)) run();
  }

  /** Copies out the tiles that the last step encoded. */
  async storeTiles(tiles: readonly PlannedTile[]): Promise<void> {
    const { archive, runner } = this.#places;
    try {
      for (const { hash, slot, picture } of tiles) {
        if (picture === undefined) archive.storeTile(hash, await runner.readSlot(slot));
      }
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Ends what is under way; the archive stays open. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { drop } of this.#errands.splice(0)) drop();
    await Promise.all(this.#restoring);
  }

  #betweenSteps(run: () => number): Promise<number | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#errands.push({
        run: () => void Promise.try(run).then(resolve, reject),
        drop: () => resolve(undefined),
      });
      this.#wake();
    });
  }
}
