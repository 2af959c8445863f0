/** Restarts with a disk cache: the same answers with fewer computed tokens and tiles. */
import assert from "node:assert/strict";
import { localApp } from "@/cli/local_app.ts";
import { openServing } from "@/cli/serving.ts";
import { OperatingError } from "@/errors.ts";
import { inlineCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { fixtureFolder, pictureUrl } from "./server_process.ts";

type Options = Partial<Parameters<typeof openServing>[0]>;

interface Answer {
  readonly choices: readonly { readonly token_ids: readonly number[] }[];
  readonly usage: { readonly prompt_tokens_details: { readonly cached_tokens: number } };
}

const bodies = [
  { type: "text", text: "what the first page says ".repeat(12) },
  { type: "image_url", image_url: { url: pictureUrl("dense", "small.png") } },
].map((_, index, parts) => ({
  messages: [{ role: "user", content: parts.slice(0, index + 1) }],
  max_tokens: 24,
  temperature: index,
  seed: 5,
  ignore_eos: true,
  return_token_ids: true,
  logprobs: true,
}));

/** One life of a server: asks everything, and ends. */
async function live(cacheFolder: string, options: Options = {}) {
  const metrics = new Metrics();
  const serving = await openServing({
    id: "dense",
    folder: fixtureFolder("dense"),
    backend: { name: "wasm", threads: 1 },
    uprightPictures: true,
    log: silentLogger,
    metrics,
    cacheFolder,
    speculation: "off", // drafts are rows too, and their number depends on the machine's speed
    ...options,
  });
  const app = localApp({ serving, codec: inlineCodec(), metrics });
  const answers: Answer[] = [];
  for (const body of bodies) {
    const response = await app.request("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 200);
    answers.push(await response.json());
  }
  await serving.close();
  return {
    tokens: answers.map(({ choices }) => choices),
    cached: answers.map(({ usage }) => usage.prompt_tokens_details.cached_tokens),
    rows: metrics.value("flotilla_computed_rows_total"),
    restored: metrics.value("flotilla_disk_cache_total", { outcome: "restored" }),
  };
}

for (const kvFormat of ["f32", "f16", "q8"] as const) {
  Deno.test(`a restart with ${kvFormat} pages on disk gives the same answers for less work`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const first = await live(folder, { kvFormat });
      const second = await live(folder, { kvFormat });
      assert.deepEqual(second.tokens, first.tokens);
      assert.equal(first.cached[0], 0);
      assert.ok(second.cached[0]! >= 48, `${second.cached[0]} tokens cached`);
      assert.ok(second.rows < first.rows / 2, `${second.rows} rows of ${first.rows}`);
      const other = await live(folder, { kvFormat: kvFormat === "q8" ? "f16" : "q8" });
      assert.equal(other.restored, 0, "pages of another KV format are other pages");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("a cache folder that cannot be made is refused by name", async () => {
  const file = await Deno.makeTempFile();
  await assert.rejects(live(file), (error) => {
    assert.ok(error instanceof OperatingError);
    assert.match(error.message, /Cannot use cache folder/);
    return true;
  });
  await Deno.remove(file);
});
