import { deepEqual, equal, rejects } from "node:assert/strict";
import type { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { Sha256 } from "@/sha256.ts";
import { downloadFile } from "./download.ts";
import { MemoryStore } from "./file_store.ts";

const content = Uint8Array.from({ length: 10_000 }, (_, index) => index * 31);
const file = {
  name: "a.bin",
  bytes: content.length,
  sha256: new Sha256().update(content).digest().toHex(),
};
const url = new URL("http://server.test/a.bin");

/** A server that gives `parts` of the file, one per request, as its ranges ask; then all of it. */
function server(cuts: readonly number[], { ranges = true } = {}) {
  const asked: (string | null)[] = [];
  const fetch = (_url: unknown, init?: RequestInit): Promise<Response> => {
    const range = new Headers(init?.headers).get("range");
    asked.push(range);
    const start = range !== null && ranges ? Number(/\d+/.exec(range)![0]) : 0;
    const cut = cuts[asked.length - 1];
    if (cut === 0) return Promise.reject(new TypeError("no network"));
    const bytes = content.slice(start, cut === undefined ? undefined : start + cut);
    return Promise.resolve(new Response(bytes, { status: start > 0 ? 206 : 200 }));
  };
  return { asked, fetch: fetch as typeof globalThis.fetch };
}

const quiet = { url, headers: {}, sleep: () => Promise.resolve() };

async function bytesOf(blob: Blob): Promise<Uint8Array> {
  return new Uint8Array(await blob.arrayBuffer());
}

Deno.test("downloadFile() goes on where the connection broke", async () => {
  const { asked, fetch } = server([3000, 0, 1]);
  const seen: number[] = [];
  const store = new MemoryStore();
  const onBytes = (bytes: number) => seen.push(bytes);
  const blob = await downloadFile(file, { ...quiet, fetch, store, onBytes });
  deepEqual(await bytesOf(blob), content);
  deepEqual(asked, [null, "bytes=3000-", "bytes=3000-", "bytes=3001-"]);
  equal(seen.at(-1), file.bytes);
  // Found the second time.
  await downloadFile(file, { ...quiet, fetch, store });
  equal(asked.length, 4);
});

Deno.test("downloadFile() begins anew where the server knows no ranges", async () => {
  const { fetch } = server([3000], { ranges: false });
  const blob = await downloadFile(file, { ...quiet, fetch, store: new MemoryStore() });
  deepEqual(await bytesOf(blob), content);
});

Deno.test("downloadFile() goes on with an earlier visit's part, unless it is damaged", async () => {
  for (const held of [content.slice(0, 500), new Uint8Array(500)]) {
    const store = new MemoryStore();
    const writer = await store.open(file.sha256);
    writer.append(held);
    writer.close();
    const { asked, fetch } = server([]);
    deepEqual(await bytesOf(await downloadFile(file, { ...quiet, fetch, store })), content);
    deepEqual(asked, held[1] === 0 ? ["bytes=500-", null] : ["bytes=500-"]);
  }
});

Deno.test("downloadFile() refuses other bytes, and a server that stays away", async () => {
  const answer = (response: () => Response) => (() => Promise.resolve(response())) as typeof fetch;
  const longer = new Uint8Array(file.bytes + 1);
  const cases: [typeof fetch, OperatingError["code"], RegExp][] = [
    [answer(() => new Response(new Uint8Array(file.bytes))), "checkpoint_invalid", /SHA-256/],
    [answer(() => new Response(longer)), "checkpoint_invalid", /longer than/],
    [answer(() => new Response("no", { status: 404 })), "unavailable", /status 404/],
    [answer(() => new Response("no", { status: 503 })), "unavailable", /status 503/],
    [server(new Array(limits.downloadTriesMax).fill(0)).fetch, "unavailable", /no network/],
  ];
  for (const [fetch, code, message] of cases) {
    const download = downloadFile(file, { ...quiet, fetch, store: new MemoryStore() });
    await rejects(
      download,
      (error: OperatingError) => error.code === code && message.test(error.message),
      String(message),
    );
  }
});

Deno.test("downloadFile() takes an empty file", async () => {
  const empty = { name: "e", bytes: 0, sha256: new Sha256().digest().toHex() };
  const fetch = (() => Promise.resolve(new Response(new Uint8Array()))) as typeof globalThis.fetch;
  equal((await downloadFile(empty, { ...quiet, fetch, store: new MemoryStore() })).size, 0);
});
