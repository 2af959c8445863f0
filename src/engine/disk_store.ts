/**
 * A bounded folder of values under content-addressed keys, kept across restarts and shared by
 * processes. A value appears whole or not at all (written aside, then renamed) and is checked when
 * it is read; what is torn, changed or not ours is deleted. Writing happens in the background from a
 * bounded queue, and a disk that refuses only costs speed. What the values are is archive.ts.
 */
import { join } from "node:path";
import { assert } from "@/assert.ts";
import type { Clock } from "@/clock.ts";
import { limits } from "@/limits.ts";
import { freshSeed } from "@/random.ts";
import type { Logger } from "@/telemetry/log.ts";
import { decodeEntry, encodeEntry } from "./disk_entry.ts";

/** Name of our part of the folder: nothing outside it is touched. Raised when the format changes. */
const PART = "flotilla-cache-1";
const INCOMING = "incoming";
const KEY = /^[0-9a-f]{64}$/;
/** Part of the bound that may be written before the folder is looked through again for others' files. */
const SCAN_SHARE = 1 / 16;
/** … and values, so that small ones do not cost a look each. */
const SCAN_WRITES = 32;

export interface DiskStoreCounts {
  readonly bytes: number;
  readonly entries: number;
  readonly stored: number;
  readonly restored: number;
  /** Refused because the queue was full, or because the disk had just failed. */
  readonly dropped: number;
  /** Read but torn, changed or of another key: deleted. */
  readonly corrupt: number;
  readonly failures: number;
  readonly evictions: number;
}

interface Known {
  readonly size: number;
  /** When its file last said that it was used. */
  readonly usedMs: number;
}

interface Job {
  readonly key: string;
  readonly bytes: Uint8Array;
}

export class DiskStore {
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** The files known, least recently used first. */
  readonly #known = new Map<string, Known>();
  readonly #queue = new Map<string, Job>();
  readonly #counts = { stored: 0, restored: 0, dropped: 0, corrupt: 0, failures: 0, evictions: 0 };
  #totalBytes = 0;
  #queuedBytes = 0;
  #writtenSinceScan = 0;
  #writesSinceScan = 0;
  /** No writes before this time: the disk failed. */
  #retryAtMs = -Infinity;
  #writing: Promise<void> | undefined;
  #closed = false;

  private constructor(
    args: { folder: string; bytesMax: number; clock: Clock; log: Logger },
  ) {
    this.#folder = join(args.folder, PART);
    this.#bytesMax = args.bytesMax;
    this.#clock = args.clock;
    this.#log = args.log;
  }

  /** Opens or makes the folder; throws what the file system throws when that is impossible. */
  static async open(
    args: { folder: string; bytesMax: number; clock: Clock; log: Logger },
  ): Promise<DiskStore> {
    const store = new DiskStore(args);
    await Deno.mkdir(join(store.#folder, INCOMING), { recursive: true });
    await store.#scan();
    await store.#evict();
    return store;
  }

  get counts(): DiskStoreCounts {
    return { ...this.#counts, bytes: this.#totalBytes, entries: this.#known.size };
  }

  /** Whether a value was there when it was last looked for. */
  has(key: string): boolean {
    return this.#known.has(key) || this.#queue.has(key);
  }

  /** Queue room for a value of that size. */
  accepts(sizeBytes: number): boolean {
    return !this.#closed && this.#clock.nowMs() >= this.#retryAtMs &&
      sizeBytes <= this.#bytesMax && this.#queuedBytes + sizeBytes <= limits.cacheQueueBytesMax;
  }

  /** Takes a value to be written later; false when there is no room for it now. */
  put(key: string, bytes: Uint8Array): boolean {
    assert(KEY.test(key), `cache key ${key}`);
    if (this.has(key)) return true;
    if (!this.accepts(bytes.length)) {
      this.#counts.dropped += 1;
      return false;
    }
    this.#queue.set(key, { key, bytes });
    this.#queuedBytes += bytes.length;
    this.#writing ??= this.#write();
    return true;
  }

  /** The value, checked; undefined when it is not there or not what was stored. */
  async get(key: string): Promise<Uint8Array | undefined> {
    const queued = this.#queue.get(key);
    if (queued !== undefined) return queued.bytes;
    const path = this.#path(key);
    let entry: Uint8Array<ArrayBuffer>;
    try {
      entry = await Deno.readFile(path);
    } catch (error) {
      this.#forget(key);
      if (!(error instanceof Deno.errors.NotFound)) this.#fail("read", error);
      return undefined;
    }
    const value = await decodeEntry(key, entry);
    if (value === undefined) {
      this.#counts.corrupt += 1;
      this.#log.warn("cache file is damaged and deleted", { key });
      this.#forget(key);
      await this.#remove(path);
      return undefined;
    }
    this.#counts.restored += 1;
    this.touch(key);
    return value;
  }

  /** Makes a value the most recently used one. */
  touch(key: string): void {
    const known = this.#known.get(key);
    if (known === undefined) return;
    const nowMs = this.#clock.epochMs();
    const isNews = nowMs - known.usedMs > limits.cacheTouchMs;
    this.#note(key, isNews ? { ...known, usedMs: nowMs } : known);
    if (!isNews) return;
    // The next start reads the order of use from the files' times.
    const now = new Date(nowMs);
    Deno.utime(this.#path(key), now, now).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) this.#fail("touch", error);
    });
  }

  /** Waits for what is queued, but not for ever. */
  async close(): Promise<void> {
    this.#closed = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, limits.cacheCloseMs);
    });
    await Promise.race([this.#writing, patience]);
    clearTimeout(timer);
    this.#queue.clear();
  }

  async #write(): Promise<void> {
    for (let job: Job | undefined; (job = this.#queue.values().next().value) !== undefined;) {
      // A disk that failed gets a rest: what is queued is given up.
      if (this.#clock.nowMs() < this.#retryAtMs) this.#counts.dropped += 1;
      else await this.#store(job);
      this.#queue.delete(job.key);
      this.#queuedBytes -= job.bytes.length;
    }
    this.#writing = undefined;
  }

  async #store({ key, bytes }: Job): Promise<void> {
    const path = this.#path(key);
    const aside = join(this.#folder, INCOMING, `${key.slice(0, 16)}-${Deno.pid}-${freshSeed()}`);
    try {
      const entry = await encodeEntry(key, bytes);
      await Deno.writeFile(aside, entry);
      await Deno.rename(aside, path);
      this.#counts.stored += 1;
      this.#note(key, { size: entry.length, usedMs: this.#clock.epochMs() });
      this.#writtenSinceScan += entry.length;
      this.#writesSinceScan += 1;
      const isOutdated = this.#writtenSinceScan > this.#bytesMax * SCAN_SHARE;
      if (isOutdated && this.#writesSinceScan >= SCAN_WRITES) await this.#scan();
      await this.#evict();
    } catch (error) {
      this.#fail("write", error);
      this.#retryAtMs = this.#clock.nowMs() + limits.cacheRetryMs;
      await this.#remove(aside);
    }
  }

  /** Gives up the least recently used values beyond the bound. */
  async #evict(): Promise<void> {
    while (this.#totalBytes > this.#bytesMax || this.#known.size > limits.cacheEntriesMax) {
      const [oldest] = this.#known.keys();
      if (oldest === undefined) return;
      this.#forget(oldest);
      this.#counts.evictions += 1;
      await this.#remove(this.#path(oldest));
    }
  }

  /** Reads the folder anew: other processes write and delete in it too. */
  async #scan(): Promise<void> {
    this.#writtenSinceScan = 0;
    this.#writesSinceScan = 0;
    const found: ({ key: string } & Known)[] = [];
    for await (const { name } of Deno.readDir(this.#folder)) {
      if (name === INCOMING) continue;
      const path = join(this.#folder, name);
      const info = await statIfPresent(path);
      if (info === undefined) continue;
      const isOurs = info.isFile && KEY.test(name) && info.size <= limits.cacheQueueBytesMax;
      if (isOurs) found.push({ key: name, size: info.size, usedMs: info.mtime?.getTime() ?? 0 });
      else await this.#remove(path);
    }
    await this.#removeUnfinished();
    this.#known.clear();
    this.#totalBytes = 0;
    found.sort((a, b) => a.usedMs - b.usedMs);
    for (const { key, ...known } of found) this.#note(key, known);
  }

  /** Deletes what a dead process left half written; younger files may be in the making. */
  async #removeUnfinished(): Promise<void> {
    for await (const { name } of Deno.readDir(join(this.#folder, INCOMING))) {
      const path = join(this.#folder, INCOMING, name);
      const info = await statIfPresent(path);
      const ageMs = this.#clock.epochMs() - (info?.mtime?.getTime() ?? 0);
      if (info !== undefined && ageMs > limits.cacheIncomingMs) await this.#remove(path);
    }
  }

  /** Files a key as the most recently used one. */
  #note(key: string, known: Known): void {
    this.#forget(key);
    this.#known.set(key, known);
    this.#totalBytes += known.size;
  }

  #forget(key: string): void {
    this.#totalBytes -= this.#known.get(key)?.size ?? 0;
    this.#known.delete(key);
  }

  async #remove(path: string): Promise<void> {
    try {
      await Deno.remove(path, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) this.#fail("remove", error);
    }
  }

  /** One line per trouble, not per file. */
  #fail(action: string, error: unknown): void {
    this.#counts.failures += 1;
    if (this.#counts.failures === 1 || this.#clock.nowMs() >= this.#retryAtMs) {
      this.#log.warn("cache folder fails: answers go on without it", { action, error });
    }
  }

  #path(key: string): string {
    return join(this.#folder, key);
  }
}

async function statIfPresent(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
