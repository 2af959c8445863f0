/** A long prefill leaves the server alive: health, pings, cancels and slots. */
import assert from "node:assert/strict";
import { ServerProcess } from "./server_process.ts";

const PROMPT_TOKENS = 3000;

/** A model of moderate size with drawn weights, whose prefill takes seconds. */
async function syntheticFolder(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const config = {
    architectures: ["SAILVLModel"],
    model_type: "sailvl",
    downsample_ratio: 0.5,
    force_image_size: 56,
    select_layer: -1,
    ps_version: "v2",
    template: "univl-chat",
    vision_config: {
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      image_size: 56,
      patch_size: 14,
    },
    llm_config: {
      model_type: "qwen3",
      hidden_size: 512,
      intermediate_size: 1536,
      num_hidden_layers: 8,
      num_attention_heads: 8,
      num_key_value_heads: 4,
      head_dim: 64,
      rms_norm_eps: 1e-6,
      rope_theta: 1e6,
      max_position_embeddings: 8192,
      vocab_size: 2048,
      tie_word_embeddings: true,
      eos_token_id: 2015,
    },
  };
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  return folder;
}

const prompt = Array.from({ length: PROMPT_TOKENS }, (_, i) => 300 + (i * 7) % 900);

async function runningSequences(server: ServerProcess): Promise<number> {
  return await server.metric("flotilla_running_sequences");
}

async function waitFor(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 2400; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${what} did not happen within 120 s`);
}

Deno.test("a long prefill blocks neither health, nor pings, nor cancels", async () => {
  const folder = await syntheticFolder();
  await using server = await ServerProcess.start([
    "--model",
    `big=${folder}`,
    "--synthetic",
    "--threads",
    "2",
  ]);
  const leaving = new AbortController();
  const response = await server.post("/v1/completions", {
    prompt,
    max_tokens: 4,
    stream: true,
    return_progress: true,
  }, { signal: leaving.signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let sawPing = false;
  while (!text.includes(`"prefill"`) || !sawPing) {
    const { value, done } = await reader.read();
    assert.ok(!done, `the stream ended before its prefill was seen:\n${text.slice(-500)}`);
    text += value;
    sawPing ||= /^: ?\w*$/m.test(value);
    const alive = await fetch(`${server.url}/livez`, { signal: AbortSignal.timeout(2000) });
    assert.equal(alive.status, 200);
    await alive.body?.cancel();
    if (text.includes("[DONE]")) break;
  }
  assert.match(text, /"prefill"/);
  leaving.abort();
  await reader.cancel().catch(() => undefined);
  await waitFor(
    "freeing the slot of a stream that left",
    async () => await runningSequences(server) === 0,
  );
});

Deno.test("a client that leaves a request without a stream frees its slot in prefill", async () => {
  const folder = await syntheticFolder();
  await using server = await ServerProcess.start(["--model", `big=${folder}`, "--synthetic"]);
  const leaving = new AbortController();
  const body = { prompt, max_tokens: 4 };
  const request = server.post("/v1/completions", body, { signal: leaving.signal });
  await waitFor("starting", async () => await runningSequences(server) === 1);
  leaving.abort();
  await assert.rejects(request);
  await waitFor("freeing the slot", async () => await runningSequences(server) === 0);
  const small = await server.post("/v1/completions", { prompt: [300, 301], max_tokens: 2 });
  assert.equal(small.status, 200);
  await small.body?.cancel();
});
