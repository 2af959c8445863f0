/**
 * Brings what a prompt needs back from disk before its request starts: KV pages in batches, each put
 * in place between two steps, and encoded tiles. It may stop at any time; what is missing then is
 * computed.
 */
import { limits } from "@/limits.ts";
import type { Archive } from "./archive.ts";
import type { Runner } from "./runner.ts";
import type { Scheduler } from "./scheduler.ts";
import type { RequestState } from "./sequence.ts";

/** Files read at the same time. */
const FILES_TOGETHER = 8;

interface Places {
  readonly archive: Archive;
  readonly scheduler: Scheduler;
  readonly runner: Runner;
}

export interface Restorable {
  /** Keys of pages, in the order of the prompt. */
  readonly pageKeys: readonly string[];
  /** Pages that were in memory when it was asked for. */
  readonly pagesBefore: number;
  readonly tileHashes: readonly string[];
}

/** What of a new request's prompt is on disk and not in memory; undefined when nothing is. */
export function findRestorable(
  state: RequestState,
  { archive, scheduler }: Places,
): Restorable | undefined {
  const { path, missing } = scheduler.findPrefix(state);
  const pageKeys = archive.findPages(path, missing);
  const covered = (path.length + pageKeys.length) * state.pageTokens;
  const hashes = state.request.tiles
    .filter((tile, index) => tile.picture === undefined && state.tileEnd(index) > covered)
    .map((tile) => tile.hash)
    .filter((hash) => !scheduler.hasTile(hash) && archive.hasTile(hash));
  const tileHashes = [...new Set(hashes)];
  if (pageKeys.length === 0 && tileHashes.length === 0) return undefined;
  return { pageKeys, pagesBefore: path.length, tileHashes };
}

/**
 * Restores as much as can be had while `isWanted`. `betweenSteps` runs a function while no step is
 * in flight and gives its result, or undefined when there will be no such time.
 */
export async function restore(
  state: RequestState,
  found: Restorable,
  args: Places & {
    isWanted: () => boolean;
    betweenSteps: (run: () => number) => Promise<number | undefined>;
  },
): Promise<void> {
  const { archive, runner, isWanted } = args;
  for (const hash of found.tileHashes) {
    if (!isWanted()) return;
    const bytes = await archive.readTile(hash);
    if (bytes !== undefined) runner.offerTile(hash, bytes);
  }
  const { pageKeys, pagesBefore } = found;
  for (let next = 0; next < pageKeys.length && isWanted();) {
    const batch = await readBatch(archive, pageKeys.slice(next));
    if (batch.length === 0) return;
    const first = pagesBefore + next;
    const reached = await args.betweenSteps(() => putBack(state, { ...args, first, batch }));
    next += batch.length;
    if (reached === undefined || reached < pagesBefore + next) return;
  }
}

/** Pages from the first of `keys` on, up to a bound of bytes or the first that is lost. */
async function readBatch(archive: Archive, keys: readonly string[]): Promise<Uint8Array[]> {
  const batch: Uint8Array[] = [];
  let bytes = 0;
  while (batch.length < keys.length && bytes < limits.cacheRestoreBytesMax) {
    const together = keys.slice(batch.length, batch.length + FILES_TOGETHER);
    const pages = await Promise.all(together.map((key) => archive.read(key)));
    for (const page of pages) {
      if (page === undefined) return batch;
      batch.push(page);
      bytes += page.length;
    }
  }
  return batch;
}

/** Files pages `first` and following of a prompt; returns how many pages it now finds in memory. */
function putBack(
  state: RequestState,
  args: Places & { first: number; batch: readonly Uint8Array[] },
): number {
  const { scheduler, runner, first, batch } = args;
  const { path, missing } = scheduler.findPrefix(state);
  // Others may have computed some meanwhile, or made the cache give up what was before.
  if (path.length < first) return path.length;
  const pages = batch.slice(path.length - first).map((bytes, index) => ({
    key: missing[index]!,
    fill: (page: number) => runner.writePage(page, bytes),
  }));
  return scheduler.restorePages(path, pages).length;
}
