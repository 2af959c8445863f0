/** The same request gives the same tokens and logits alone, in a batch, and on 1 or 2 threads. */
import assert from "node:assert/strict";
import { type LocalApp, localApp } from "@/cli/local_app.ts";
import { openServing } from "@/cli/serving.ts";
import { inlineCodec } from "@/media/codec.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { fixtureFolder, pictureUrl } from "./server_process.ts";

/** An app in this process, on the WASM kernels. */
async function withApp<T>(
  options: { model: string; threads: number; quantisation?: "q8" },
  use: (app: LocalApp) => Promise<T>,
): Promise<T> {
  const metrics = new Metrics();
  const serving = await openServing({
    id: "tiny",
    folder: fixtureFolder(options.model),
    backend: { name: "wasm", threads: options.threads },
    quantisation: options.quantisation ?? "none",
    uprightPictures: true,
    log: silentLogger,
    metrics,
  });
  try {
    return await use(localApp({ serving, codec: inlineCodec(), metrics }));
  } finally {
    await serving.close();
  }
}

/** Sixteen requests of all kinds: greedy and sampled, short and long, with and without pictures. */
function mixedRequests(model: string): object[] {
  const pictures = ["small.png", "big.png", "frame1.png"].map((name) => pictureUrl(model, name));
  return Array.from({ length: 16 }, (_, i) => ({
    messages: [{
      role: "user",
      content: [
        ...(i % 2 === 0 ? [{ type: "image_url", image_url: { url: pictures[i % 3] } }] : []),
        { type: "text", text: `request ${i} `.repeat(1 + (i % 5) * 9) },
      ],
    }],
    temperature: i % 4 === 0 ? 0 : 0.9,
    top_p: i % 3 === 0 ? 0.8 : 1,
    top_k: i % 5 === 0 ? 20 : 0,
    frequency_penalty: i % 7 === 0 ? 0.5 : 0,
    seed: 100 + i,
    max_tokens: 6 + i,
    ignore_eos: true,
    return_token_ids: true,
    logprobs: true,
    top_logprobs: 4,
  }));
}

interface Choice {
  token_ids: number[];
  logprobs: { content: unknown[] };
}

/** Tokens and every printed digit of the log-probabilities. */
async function ask(app: LocalApp, body: object): Promise<string> {
  const response = await app.request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json() as { choices: Choice[] };
  assert.equal(response.status, 200, JSON.stringify(answer));
  const [choice] = answer.choices;
  assert.ok(choice!.token_ids.length > 0);
  return JSON.stringify([choice!.token_ids, choice!.logprobs.content]);
}

for (const [model, quantisation] of [["dense", undefined], ["moe", undefined], ["dense", "q8"]]) {
  Deno.test(`${model} ${quantisation ?? "none"}: batch and threads change no bit`, async () => {
    const requests = mixedRequests(model!);
    const quantised = quantisation === "q8" ? { quantisation } as const : {};
    const alone: string[] = [];
    await withApp({ model: model!, threads: 1, ...quantised }, async (app) => {
      for (const request of requests) alone.push(await ask(app, request));
    });
    for (const threads of [1, 2]) {
      await withApp({ model: model!, threads, ...quantised }, async (app) => {
        const together = await Promise.all(requests.map((request) => ask(app, request)));
        assert.deepEqual(together, alone, `${threads} threads`);
      });
    }
  });
}
