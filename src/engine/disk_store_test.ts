import assert from "node:assert/strict";
import { join } from "node:path";
import { limits } from "@/limits.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { DiskStore } from "./disk_store.ts";

const keyOf = (n: number): string => n.toString(16).padStart(64, "0").split("").reverse().join("");
const valueOf = (n: number, length = 1000): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => n * 31 + i);

class Folder implements AsyncDisposable {
  readonly path = Deno.makeTempDirSync();
  epochMs = 1_000_000;
  nowMs = 0;

  open(bytesMax = 1e6): Promise<DiskStore> {
    const clock = { nowMs: () => this.nowMs, epochMs: () => this.epochMs += 100_000 };
    return DiskStore.open({ folder: this.path, bytesMax, clock, log: silentLogger });
  }

  file(n: number): string {
    return join(this.path, "flotilla-cache-1", keyOf(n));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

async function fill(store: DiskStore, count: number): Promise<void> {
  for (let n = 0; n < count; n++) assert.ok(store.put(keyOf(n), valueOf(n)));
  await store.close();
}

Deno.test("DiskStore gives back values in this and in the next process", async () => {
  await using folder = new Folder();
  const store = await folder.open();
  assert.ok(store.put(keyOf(1), valueOf(1)));
  assert.deepEqual(await store.get(keyOf(1)), valueOf(1), "while it is still queued");
  await store.close();
  assert.deepEqual(await store.get(keyOf(1)), valueOf(1));
  const next = await folder.open();
  assert.ok(next.has(keyOf(1)) && !next.has(keyOf(2)));
  assert.deepEqual(await next.get(keyOf(1)), valueOf(1));
  assert.equal(await next.get(keyOf(2)), undefined);
  await next.close();
});

Deno.test("DiskStore gives up the least recently used values, also after a restart", async () => {
  await using folder = new Folder();
  const store = await folder.open();
  await fill(store, 10);
  // The files' times are those of writing; reading makes the first one the newest.
  for (let n = 0; n < 10; n++) Deno.utimeSync(folder.file(n), n, n);
  assert.ok(await store.get(keyOf(0)));
  await new Promise((resolve) => setTimeout(resolve, 20)); // its time is set in the background
  const small = await folder.open(4 * 1080);
  const kept = Array.from({ length: 10 }, (_, n) => small.has(keyOf(n)) ? [n] : []).flat();
  assert.deepEqual(kept, [0, 7, 8, 9]);
  assert.equal(small.counts.evictions, 6);
  assert.ok(small.counts.bytes <= 4 * 1080);
  small.put(keyOf(20), valueOf(20));
  await small.close();
  assert.ok(!small.has(keyOf(7)) && small.has(keyOf(0)));
});

Deno.test("DiskStore deletes what is flipped, torn, renamed or not ours, and nothing outside", async () => {
  await using folder = new Folder();
  await fill(await folder.open(), 4);
  const flipped = Deno.readFileSync(folder.file(0));
  flipped[flipped.length - 3]! ^= 4;
  Deno.writeFileSync(folder.file(0), flipped);
  Deno.truncateSync(folder.file(1), 500);
  Deno.copyFileSync(folder.file(2), folder.file(3));
  const inside = join(folder.path, "flotilla-cache-1");
  Deno.writeTextFileSync(join(inside, "notes.txt"), "foreign");
  Deno.writeTextFileSync(join(folder.path, "mine.txt"), "keep");
  const unfinished = join(inside, "incoming", "dead");
  Deno.writeTextFileSync(unfinished, "half");
  Deno.utimeSync(unfinished, 0, 0);
  const store = await folder.open();
  for (const n of [0, 1, 3]) {
    assert.equal(await store.get(keyOf(n)), undefined, `value ${n}`);
    assert.throws(() => Deno.statSync(folder.file(n)), Deno.errors.NotFound);
  }
  assert.deepEqual(await store.get(keyOf(2)), valueOf(2));
  assert.equal(store.counts.corrupt, 3);
  assert.deepEqual([...Deno.readDirSync(join(inside, "incoming"))], []);
  assert.throws(() => Deno.statSync(join(inside, "notes.txt")), Deno.errors.NotFound);
  assert.equal(Deno.readTextFileSync(join(folder.path, "mine.txt")), "keep");
  await store.close();
});

Deno.test("DiskStore goes on when the disk refuses, and tries again later", async () => {
  await using folder = new Folder();
  const store = await folder.open();
  const incoming = join(folder.file(1), "..", "incoming");
  Deno.removeSync(incoming);
  Deno.writeTextFileSync(incoming, "in the way");
  assert.ok(store.put(keyOf(1), valueOf(1)));
  while (store.counts.failures === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(store.put(keyOf(1), valueOf(1)), false, "the disk has a rest");
  assert.equal(await store.get(keyOf(1)), undefined);
  Deno.removeSync(incoming);
  Deno.mkdirSync(incoming);
  folder.nowMs = limits.cacheRetryMs + 1;
  assert.ok(store.put(keyOf(1), valueOf(1)));
  await store.close();
  assert.deepEqual(await store.get(keyOf(1)), valueOf(1));
});

Deno.test("DiskStore.put() refuses what its queue cannot hold", async () => {
  await using folder = new Folder();
  const store = await folder.open(1e9);
  const half = new Uint8Array(limits.cacheQueueBytesMax / 2 + 1);
  assert.ok(store.put(keyOf(1), half));
  assert.equal(store.put(keyOf(2), half), false);
  assert.equal(store.counts.dropped, 1);
  await store.close();
  assert.equal(store.put(keyOf(3), valueOf(3)), false, "after close()");
});
