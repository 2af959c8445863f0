/** The single-isolate server: nano answers with no worker, no shared memory, no run or ffi right. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { optionalTest, probePath } from "../skip.ts";
import { pictureUrl, ServerProcess } from "./server_process.ts";

const nano = await probePath("nano", new URL("../../models/nano/config.json", import.meta.url));

/** Takes away what an isolate of that kind lacks, before any of our code runs. */
const withoutThreads = fileURLToPath(new URL("./without_threads.ts", import.meta.url));

optionalTest({ name: "nano answers as a single isolate", needs: [nano] }, async () => {
  await using server = await ServerProcess.startProgram([
    "serve",
    "--no-check",
    "--allow-read",
    "--allow-net=127.0.0.1",
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--preload",
    withoutThreads,
    "src/edge.ts",
  ], /(http:\/\/127\.0\.0\.1:\d+)/);
  const models = await (await fetch(`${server.url}/v1/models`)).json();
  assert.equal(models.data[0].id, "nano");
  const response = await server.post("/v1/chat/completions", {
    messages: [{
      role: "user",
      content: [
        { type: "image_url", image_url: { url: pictureUrl("dense", "small.png") } },
        { type: "text", text: "What color are the shapes in the image?" },
      ],
    }],
    max_tokens: 8,
    temperature: 0,
  });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.match(answer.system_fingerprint, /^wasm\/simd128/);
  const page = await fetch(server.url);
  assert.match(await page.text(), /<title>/);
});
