/** Files of models, as pages that run them themselves ask for them. */
import assert from "node:assert/strict";
import { memoryFolder } from "@/weights/source.ts";
import { json, testApp } from "./test_app.ts";

const content = Uint8Array.from({ length: 3_000_000 }, (_, index) => index % 251);
const file = { name: "model.safetensors", bytes: content.length, sha256: "ab".repeat(32) };
const path = "/web/models/tiny/model.safetensors";
const etag = `"${file.sha256}"`;

/** An app that offers one file, and how many of its readers are open. */
function fileApp() {
  const folder = memoryFolder("tiny", new Map([[file.name, content]]));
  const state = { open: 0 };
  const offer = {
    list: () => Promise.resolve({ model: "tiny", files: [file] }),
    open: async (name: string) => {
      const source = await folder.open(name);
      state.open++;
      return { ...source, close: () => void state.open-- };
    },
  };
  const { app } = testApp({ app: { offers: new Map([["tiny", offer]]) } });
  const get = (headers: Record<string, string> = {}, method = "GET") =>
    Promise.resolve(app.request(path, { headers, method }));
  return { app, get, state };
}

async function bytesOf(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await response.arrayBuffer());
}

Deno.test("model files are listed and given whole", async () => {
  const { app, get, state } = fileApp();
  const list = await json(app.request("/web/models/tiny/files.json"));
  assert.deepEqual(list, { model: "tiny", files: [file] });
  const models = await json(app.request("/v1/models"));
  assert.equal(models.data[0].files, "/web/models/tiny/");
  const whole = await get();
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get("content-length"), String(content.length));
  assert.equal(whole.headers.get("accept-ranges"), "bytes");
  assert.equal(whole.headers.get("cross-origin-resource-policy"), "same-origin");
  assert.deepEqual(await bytesOf(whole), content);
  assert.equal(state.open, 0);
});

Deno.test("model files are given in ranges", async () => {
  const { get } = fileApp();
  const size = content.length;
  const cases: [string, number, number][] = [
    ["bytes=0-0", 0, 1],
    ["bytes=1000000-2500000", 1_000_000, 2_500_001],
    ["bytes=2999999-", 2_999_999, size],
    ["bytes=-10", size - 10, size],
    ["bytes=5-99999999", 5, size],
  ];
  for (const [range, start, end] of cases) {
    const part = await get({ range });
    assert.equal(part.status, 206, range);
    assert.equal(part.headers.get("content-range"), `bytes ${start}-${end - 1}/${size}`);
    assert.deepEqual(await bytesOf(part), content.slice(start, end), range);
  }
  for (const range of ["bytes=3000000-", "bytes=-0"]) {
    const refused = await get({ range });
    assert.equal(refused.status, 416);
    assert.equal(refused.headers.get("content-range"), `bytes */${size}`);
  }
  for (const range of ["bytes=5-4", "bytes=0-1,4-5", "lines=1-2", "bytes=-"]) {
    const whole = await get({ range });
    assert.equal(whole.status, 200, range);
    await whole.body?.cancel();
  }
});

Deno.test("model files are not sent again while they are the same", async () => {
  const { get } = fileApp();
  const known = await get({ "if-none-match": etag });
  assert.equal(known.status, 304);
  assert.equal((await get({ range: "bytes=0-9", "if-range": etag })).status, 206);
  const changed = await get({ range: "bytes=0-9", "if-range": '"other"' });
  assert.equal(changed.status, 200);
  await changed.body?.cancel();
  const head = await get({}, "HEAD");
  assert.equal(head.status, 200);
  assert.equal(head.headers.get("content-length"), String(content.length));
});

Deno.test("model files are closed when the client leaves", async () => {
  const { get, state } = fileApp();
  const reader = (await get()).body!.getReader();
  await reader.read();
  assert.equal(state.open, 1);
  await reader.cancel();
  assert.equal(state.open, 0);
});

Deno.test("model files that are not offered do not exist", async () => {
  const { app } = fileApp();
  for (const other of ["/web/models/huge/files.json", "/web/models/tiny/secret.txt"]) {
    const response = await app.request(other);
    assert.equal(response.status, 404);
    assert.equal((await response.json()).error.code, "not_found");
  }
  const { app: closed } = testApp();
  assert.equal((await closed.request(path)).status, 404);
  assert.equal((await json(closed.request("/v1/models"))).data[0].files, null);
});
