/** The disk cache: equal tokens and less work after a restart, whatever happened to the files. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { seededRandom } from "@/random.ts";
import { greedyParams } from "@/sampling/params.ts";
import { askChecked, openArchiveEngine, requestOf } from "./archive_engine.ts";
import { IMAGE_ID, TILE_SIZE, TOKENS_PER_TILE } from "./fake_model.ts";
import { between, pick, type Random } from "./workload.ts";

class CacheFolder implements AsyncDisposable {
  readonly path = Deno.makeTempDirSync();

  /** Every file of the store. */
  files(): string[] {
    const inside = join(this.path, "flotilla-cache-1");
    return [...Deno.readDirSync(inside)].filter(({ isFile }) => isFile)
      .map(({ name }) => join(inside, name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** A prompt of 41 tokens with a picture. */
function pictureRequest() {
  const pixels = new Uint8Array(TILE_SIZE * TILE_SIZE * 3).fill(9);
  const words = (count: number, from: number) => Array.from({ length: count }, (_, i) => from + i);
  const promptIds = [
    ...words(10, 5),
    ...Array<number>(TOKENS_PER_TILE).fill(IMAGE_ID),
    ...words(26, 8),
  ];
  return {
    id: "picture",
    promptIds,
    tiles: [{ hash: "picture-9", pixels, start: 10 }],
    choices: 1,
    promptLogprobs: false,
    params: { ...greedyParams, maxTokens: 20, ignoreEos: true },
  };
}

Deno.test("a restarted engine computes a known prompt no more, and answers the same", async () => {
  await using folder = new CacheFolder();
  // Drafts are rows too, and how many there are depends on the machine's speed.
  const options = { folder: folder.path, speculation: "off" } as const;
  const first = await openArchiveEngine(options);
  assert.equal(await askChecked(first.engine, pictureRequest()), 0);
  await first.engine.close();
  const second = await openArchiveEngine(options);
  assert.equal(await askChecked(second.engine, pictureRequest()), 40);
  assert.deepEqual(second.model.encoded, [], "its picture lies before what is computed");
  const rows = (metrics: typeof first.metrics) => metrics.value("flotilla_computed_rows_total");
  assert.ok(rows(second.metrics) <= rows(first.metrics) - 40);
  assert.ok(second.metrics.value("flotilla_disk_cache_total", { outcome: "restored" }) >= 10);
  // Another prompt with the picture: its tile comes from disk.
  const other = pictureRequest();
  assert.equal(
    await askChecked(second.engine, { ...other, promptIds: [4, ...other.promptIds.slice(1)] }),
    0,
  );
  assert.deepEqual(second.model.encoded, [], "the tile was restored");
  await second.engine.close();
});

Deno.test("pages of another model are never used", async () => {
  await using folder = new CacheFolder();
  const first = await openArchiveEngine({ folder: folder.path });
  await askChecked(first.engine, pictureRequest());
  await first.engine.close();
  const other = await openArchiveEngine({ folder: folder.path, identity: "other weights" });
  assert.equal(await askChecked(other.engine, pictureRequest()), 0);
  await other.engine.close();
});

/** What may happen to a folder between two runs. */
function harm(random: Random, folder: CacheFolder): void {
  for (const file of folder.files()) {
    if (random() > 0.2) continue;
    const bytes = Deno.readFileSync(file);
    const kind = pick(random, ["flip", "tear", "delete", "swap"]);
    if (kind === "delete") Deno.removeSync(file);
    else if (kind === "tear") Deno.truncateSync(file, between(random, 0, bytes.length));
    else if (kind === "swap") {
      Deno.writeFileSync(file, Deno.readFileSync(pick(random, folder.files())));
    } else if (bytes.length > 0) {
      bytes[between(random, 0, bytes.length - 1)]! ^= 1 << between(random, 0, 7);
      Deno.writeFileSync(file, bytes);
    }
  }
}

Deno.test("random requests over restarts get their tokens from damaged and bounded caches", async () => {
  let restored = 0;
  let corrupt = 0;
  for (let seed = 0; seed < 12; seed++) {
    await using folder = new CacheFolder();
    const random = seededRandom(seed);
    const bytesMax = pick(random, [3000, 20_000, 1e6]);
    for (let run = 0; run < 3; run++) {
      const { engine, store } = await openArchiveEngine({
        folder: folder.path,
        bytesMax,
        pages: pick(random, [31, 80]),
      });
      for (let round = 0; round < 4; round++) {
        const requests = [1, 2, 3].map((n) => requestOf(random, `${run}-${round}-${n}`));
        await Promise.all(requests.map((request) => askChecked(engine, request)));
      }
      await engine.close();
      restored += store.counts.restored;
      corrupt += store.counts.corrupt;
      assert.ok(store.counts.bytes <= bytesMax, "the folder stays in its bound");
      harm(random, folder);
    }
  }
  assert.ok(restored > 50 && corrupt > 5, `${restored} restored, ${corrupt} corrupt`);
});

function spawnEngine(folder: string, seed: number): Deno.ChildProcess {
  const program = fileURLToPath(new URL("archive_engine.ts", import.meta.url));
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", program, folder, String(seed)],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

Deno.test("two processes on one folder, killed while they write, leave a cache that works", async () => {
  await using folder = new CacheFolder();
  for (let round = 0; round < 2; round++) {
    const children = [1, 2].map((n) => spawnEngine(folder.path, round * 2 + n));
    await Promise.all(children.map(async (child) => {
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      assert.equal(new TextDecoder().decode(value), "busy\n", "it ran and checked its tokens");
      await new Promise((resolve) => setTimeout(resolve, 30));
      child.kill("SIGKILL");
      await child.status;
      await reader.cancel();
    }));
  }
  const { engine, store } = await openArchiveEngine({ folder: folder.path, bytesMax: 60_000 });
  const random = seededRandom(1);
  for (let i = 0; i < 12; i++) await askChecked(engine, requestOf(random, `after-${i}`));
  assert.ok(store.counts.restored > 0, "what was whole is used");
  await engine.close();
});

Deno.test("a folder that cannot be written costs nothing but the cache", async () => {
  await using folder = new CacheFolder();
  const { engine, store } = await openArchiveEngine({ folder: folder.path });
  const inside = join(folder.path, "flotilla-cache-1");
  Deno.removeSync(inside, { recursive: true });
  Deno.writeTextFileSync(inside, "in the way");
  const random = seededRandom(5);
  for (let i = 0; i < 5; i++) await askChecked(engine, requestOf(random, `request-${i}`));
  await engine.close();
  assert.ok(store.counts.failures > 0);
  assert.equal(store.counts.stored, 0);
});
