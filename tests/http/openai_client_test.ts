import assert from "node:assert/strict";
import OpenAI from "openai";
import { OperatingError } from "@/errors.ts";
import { say, testApp, type TestAppOptions } from "./test_app.ts";

/** Runs the official client against a real server. */
async function withClient(
  options: TestAppOptions,
  body: (client: OpenAI) => Promise<void>,
): Promise<void> {
  const { app } = testApp({ ...options, app: { apiKeys: ["secret"], ...options.app } });
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, app.fetch);
  const baseURL = `http://127.0.0.1:${server.addr.port}/v1`;
  try {
    await body(new OpenAI({ baseURL, apiKey: "secret", maxRetries: 0 }));
  } finally {
    await server.shutdown();
  }
}

function clientTest(
  name: string,
  options: TestAppOptions,
  body: (client: OpenAI) => Promise<void>,
): void {
  // The client keeps idle connections in a pool of its own.
  Deno.test({
    name,
    sanitizeResources: false,
    sanitizeOps: false,
    fn: () => withClient(options, body),
  });
}

const messages = [{ role: "user", content: "Hi" }] as const;
const request = { model: "tiny", messages: [...messages] };

clientTest("openai client chats", {}, async (client) => {
  const answer = await client.chat.completions.create(request);
  assert.equal(answer.choices[0]!.message.content, "Hello there!");
  assert.equal(answer.choices[0]!.finish_reason, "stop");
  assert.ok(answer.usage!.total_tokens > 0);
});

clientTest("openai client streams, with usage at the end", {}, async (client) => {
  const stream = await client.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, "Hello there!");
  assert.equal(usage!.completion_tokens, say("Hello there!").length + 1);
});

clientTest("openai client's stream helper assembles several choices", {
  script: { tokens: (_, choice) => say(["red", "green"][choice]!) },
}, async (client) => {
  const runner = client.chat.completions.stream({ ...request, n: 2 });
  const answer = await runner.finalChatCompletion();
  assert.deepEqual(answer.choices.map((choice) => choice.message.content), ["red", "green"]);
});

clientTest("openai client sends pictures", {}, async (client) => {
  const answer = await client.chat.completions.create({
    model: "tiny",
    messages: [{
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: "data:,tiles=2", detail: "high" } },
      ],
    }],
  });
  assert.equal(answer.choices[0]!.message.content, "Hello there!");
});

clientTest("openai client reads log-probabilities", {}, async (client) => {
  const answer = await client.chat.completions.create({
    ...request,
    logprobs: true,
    top_logprobs: 3,
  });
  const entries = answer.choices[0]!.logprobs!.content!;
  assert.equal(entries.map((entry) => entry.token).join(""), "Hello there!");
  assert.equal(entries[0]!.top_logprobs.length, 3);
});

clientTest("openai client completes token ids", {}, async (client) => {
  const answer = await client.completions.create({ model: "tiny", prompt: [5, 6], logprobs: 1 });
  assert.equal(answer.choices[0]!.text, "Hello there!");
  assert.equal(answer.choices[0]!.logprobs!.tokens!.length, say("Hello there!").length);
});

clientTest("openai client lists models", {}, async (client) => {
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["tiny"]);
  assert.equal((await client.models.retrieve("tiny")).id, "tiny");
});

clientTest("openai client raises its own errors with the field", {}, async (client) => {
  const isBad = (error: unknown) =>
    error instanceof OpenAI.BadRequestError && error.param === "temperature";
  await assert.rejects(client.chat.completions.create({ ...request, temperature: 3 }), isBad);
  const unknown = client.chat.completions.create({ ...request, model: "gpt-9" });
  await assert.rejects(unknown, OpenAI.NotFoundError);
  const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

clientTest("openai client raises an error that comes inside a stream", {
  script: {
    failure: { afterTokens: 2, error: new OperatingError("unavailable", "Engine lost a part") },
  },
}, async (client) => {
  const stream = await client.chat.completions.create({ ...request, stream: true });
  const read = async () => {
    for await (const _ of stream);
  };
  await assert.rejects(read(), /Engine lost a part/);
});

clientTest("openai client raises a full queue as a rate limit", {
  script: { refusal: new OperatingError("overloaded", "Queue is full", { retryAfterSeconds: 1 }) },
}, async (client) => {
  await assert.rejects(client.chat.completions.create(request), OpenAI.RateLimitError);
});
