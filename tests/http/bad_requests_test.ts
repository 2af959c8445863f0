import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { hello, testApp, tokenizer } from "./test_app.ts";

interface BadRequest {
  readonly body: unknown;
  readonly param: string | null;
  readonly status?: number;
  readonly path?: string;
  readonly headers?: Record<string, string>;
}

const COMPLETIONS = "/v1/completions";
const imageContextId = tokenizer.tokenId("<IMG_CONTEXT>")!;

const chat = (fields: Record<string, unknown>) => ({ ...hello, ...fields });
const says = (...messages: unknown[]) => ({ messages });
const user = (...content: unknown[]) => says({ role: "user", content });
const image = { type: "image_url", image_url: { url: "data:,a" } };
const deep = (open: string, close: string, depth: number) =>
  open.repeat(depth) + close.repeat(depth);

/** A field of a chat with a value that is refused under the field's own name. */
const FIELDS: readonly [param: string, value: unknown][] = [
  ["temperature", -0.1],
  ["temperature", 2.1],
  ["temperature", "hot"],
  ["temperature", [1]],
  ["top_p", 0],
  ["top_p", 1.01],
  ["top_p", -1],
  ["top_k", -1],
  ["top_k", 1.5],
  ["min_p", -0.5],
  ["min_p", 2],
  ["presence_penalty", 2.5],
  ["frequency_penalty", -3],
  ["repetition_penalty", 0],
  ["repetition_penalty", -1],
  ["max_tokens", 0],
  ["max_tokens", -5],
  ["max_tokens", 1.5],
  ["max_tokens", "10"],
  ["max_completion_tokens", 0],
  ["min_tokens", -1],
  ["n", 0],
  ["n", -1],
  ["n", 17],
  ["n", true],
  ["seed", 1.5],
  ["seed", "x"],
  ["seed", 2 ** 60],
  ["stream", "yes"],
  ["stream", 1],
  ["stream_options.include_usage", "x"],
  ["logprobs", 3],
  ["top_logprobs", 5],
  ["top_logprobs", 21],
  ["top_logprobs", -1],
  ["stop", ""],
  ["stop", 5],
  ["stop", new Array(17).fill("x")],
  ["stop[1]", ["a", 5]],
  ["stop", "x".repeat(257)],
  ["stop_token_ids[0]", [-1]],
  ["stop_token_ids[0]", [999_999]],
  ["logit_bias.5", { "5": 101 }],
  ["logit_bias.5", { "5": "x" }],
  ["logit_bias.999999", { "999999": 1 }],
  ["logit_bias.abc", { abc: 1 }],
  ["logit_bias.-1", { "-1": 1 }],
  ["logit_bias", [1]],
  ["ignore_eos", "no"],
  ["return_token_ids", 1],
  ["thinking", "maybe"],
  ["thinking", -1],
  ["thinking.budget", { budget: 0 }],
  ["reasoning_effort", "huge"],
  ["max_tiles", 0],
  ["max_tiles", 65],
  ["model", 5],
  ["response_format.type", { type: "json_object" }],
  ["tools", [{ type: "function" }]],
];

const ROWS: readonly BadRequest[] = [
  ...FIELDS.map(([param, value]): BadRequest => {
    const name = param.split(/[.[]/)[0]!;
    const isNested = param === "stream_options.include_usage";
    return { body: chat({ [name]: isNested ? { include_usage: value } : value }), param };
  }),
  { body: "", param: null },
  { body: "{", param: null },
  { body: "nonsense", param: null },
  { body: '{"messages": [}', param: null },
  { body: "null", param: null },
  { body: "[]", param: null },
  { body: "5", param: null },
  { body: '"text"', param: null },
  { body: {}, param: "messages" },
  { body: says(), param: "messages" },
  { body: { messages: "hi" }, param: "messages" },
  { body: { messages: null }, param: "messages" },
  { body: says("hi"), param: "messages[0]" },
  { body: says({ content: "hi" }), param: "messages[0].role" },
  { body: says({ role: "tool", content: "hi" }), param: "messages[0].role" },
  { body: says({ role: "robot", content: "hi" }), param: "messages[0].role" },
  { body: says({ role: "user" }), param: "messages[0].content" },
  { body: says({ role: "user", content: null }), param: "messages[0].content" },
  { body: says({ role: "user", content: 7 }), param: "messages[0].content" },
  { body: says({ role: "user", content: { type: "text" } }), param: "messages[0].content" },
  { body: user("plain"), param: "messages[0].content[0]" },
  { body: user({ type: "audio" }), param: "messages[0].content[0].type" },
  { body: user({ text: "no type" }), param: "messages[0].content[0].type" },
  { body: user({ type: "text" }), param: "messages[0].content[0].text" },
  { body: user({ type: "text", text: 5 }), param: "messages[0].content[0].text" },
  { body: user({ type: "image_url" }), param: "messages[0].content[0].image_url" },
  {
    body: user({ type: "image_url", image_url: {} }),
    param: "messages[0].content[0].image_url.url",
  },
  {
    body: user({ type: "image_url", image_url: { url: "data:,a", detail: "ultra" } }),
    param: "messages[0].content[0].image_url.detail",
  },
  { body: user({ type: "video", video: [] }), param: "messages[0].content[0].video" },
  { body: user({ type: "video", video: "data:,a" }), param: "messages[0].content[0].video" },
  { body: user({ type: "video", video: [1] }), param: "messages[0].content[0].video[0]" },
  {
    body: user({ type: "video", video: new Array(65).fill("data:,a") }),
    param: "messages[0].content[0].video",
  },
  { body: user(...new Array(65).fill(image)), param: "messages" },
  { body: says({ role: "system", content: [image] }), param: "messages[0].content[0].type" },
  {
    body: says({ role: "user", content: "a" }, { role: "assistant", content: [image] }),
    param: "messages[1].content[0].type",
  },
  {
    body: user({ type: "text", text: "a" }, { type: "image_url", image_url: "http://10.0.0.1/a" }),
    param: "messages[0].content[1].image_url",
  },
  {
    body: user({ type: "image_url", image_url: { url: "data:,broken" } }),
    param: "messages[0].content[0].image_url.url",
  },
  {
    body: user({ type: "video", video: ["data:,a", "data:,broken"] }),
    param: "messages[0].content[0].video[1]",
  },
  { body: chat({ model: "gpt-9" }), param: "model", status: 404 },
  { body: chat({ model: "" }), param: "model", status: 404 },
  { body: chat({ max_tokens: 4, min_tokens: 5 }), param: "min_tokens" },
  { body: chat({ max_tokens: 3000 }), param: "messages" },
  { body: says({ role: "user", content: "word ".repeat(3000) }), param: "messages" },
  {
    body: {
      ...user(...new Array(64).fill({ ...image, image_url: "data:,tiles=9" })),
      max_tiles: 9,
    },
    param: "messages",
  },
  {
    body: says({ role: "user", content: "x".repeat(10 << 20) }),
    param: "messages[0].content",
    status: 413,
  },
  {
    body: user(
      { type: "text", text: "x".repeat(3 << 20) },
      { type: "text", text: "y".repeat(3 << 20) },
    ),
    param: "messages",
    status: 413,
  },
  { body: deep("[", "]", 100_000), param: null },
  { body: `{"messages":${deep('{"a":', "}", 1000)}`, param: null },
  { body: `[${"[],".repeat(1_000_001)}[]]`, param: null, status: 413 },
  { body: "a=b", param: null, status: 415, headers: { "content-type": "text/plain" } },
  {
    body: hello,
    param: null,
    status: 415,
    headers: { "content-type": "multipart/form-data; boundary=x" },
  },
  { body: hello, param: null, status: 415, headers: { "content-encoding": "gzip" } },
  { body: hello, param: null, status: 413, headers: { "content-length": "999999999999" } },
  { path: COMPLETIONS, body: {}, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: null }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: "" }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: [] }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: 5 }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: [[]] }, param: "prompt[0]" },
  { path: COMPLETIONS, body: { prompt: [1, -2] }, param: "prompt[1]" },
  { path: COMPLETIONS, body: { prompt: ["a", ""] }, param: "prompt[1]" },
  { path: COMPLETIONS, body: { prompt: [5, 1_000_000] }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: [5, imageContextId] }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: "<img><IMG_CONTEXT></img>" }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: new Array(2048).fill(5) }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: new Array(65).fill("a") }, param: "prompt" },
  { path: COMPLETIONS, body: { prompt: "a", logprobs: 21 }, param: "logprobs" },
  { path: COMPLETIONS, body: { prompt: "a", logprobs: true }, param: "logprobs" },
  { path: COMPLETIONS, body: { prompt: "a", max_tokens: 0 }, param: "max_tokens" },
  { path: COMPLETIONS, body: { prompt: "a", echo: "yes" }, param: "echo" },
  { path: "/tokenize", body: {}, param: "prompt" },
  { path: "/tokenize", body: { prompt: "a", ...hello }, param: "prompt" },
  { path: "/tokenize", body: { prompt: 5 }, param: "prompt" },
  { path: "/tokenize", body: { messages: [] }, param: "messages" },
  { path: "/detokenize", body: {}, param: "tokens" },
  { path: "/detokenize", body: { tokens: "a" }, param: "tokens" },
  { path: "/detokenize", body: { tokens: [1, 1.5] }, param: "tokens[1]" },
  { path: "/detokenize", body: { tokens: [1_000_000] }, param: "tokens[0]" },
  { path: "/render", body: {}, param: "messages" },
  { path: "/render", body: { ...hello, model: "x" }, param: "model", status: 404 },
];

Deno.test("bad requests each get their status and name the field", async () => {
  const { post, generator, app } = testApp();
  assert.ok(ROWS.length >= 120);
  for (const { path = "/v1/chat/completions", body, param, status = 400, headers } of ROWS) {
    const response = await post(path, body, headers);
    const text = await response.text();
    const sent = (typeof body === "string" ? body : JSON.stringify(body)).slice(0, 200);
    const where = `${path} ${sent} -> ${response.status} ${text}`;
    assert.equal(response.status, status, where);
    const { error } = JSON.parse(text);
    assert.equal(error.param, param, where);
    assert.equal(error.type, "invalid_request_error", where);
    assert.ok(error.message.length > 10 && error.message.length < 400, where);
    assert.ok(!error.message.endsWith("."), where);
  }
  assert.equal(generator.submissions.length, 0);
  assert.equal((await app.request("/livez")).status, 200);
  assert.equal((await post("/v1/chat/completions", hello)).status, 200);
});

Deno.test("bad requests are refused alike when a stream is asked for", async () => {
  const { post } = testApp();
  for (const [param, value] of FIELDS.slice(0, 20)) {
    const response = await post("/v1/chat/completions", chat({ [param]: value, stream: true }));
    assert.equal(response.status, 400, param);
    assert.equal((await response.json()).error.param, param);
  }
});

Deno.test("an over-long prompt is refused with its counts", async () => {
  const { post } = testApp();
  const body = says({ role: "user", content: "word ".repeat(3000) });
  const { error } = await (await post("/v1/chat/completions", body)).json();
  assert.equal(error.code, "context_length_exceeded");
  const { tokens } = await (await post("/tokenize", body)).json();
  assert.ok(error.message.includes(`${tokens.length} prompt tokens`), error.message);
  assert.ok(error.message.includes("2048 tokens"), error.message);
});

Deno.test("a body that grows past the bound is refused while it is read", async () => {
  const { app } = testApp();
  let sentBytes = 0;
  const chunk = new Uint8Array(4 << 20).fill(0x20);
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      sentBytes += chunk.length;
      controller.enqueue(chunk);
    },
  });
  const response = await app.request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  assert.equal(response.status, 413);
  assert.ok(sentBytes < limits.bodyBytesMax + 4 * chunk.length, "the rest is not read");
  await response.body?.cancel();
});

Deno.test("bodies beyond what all requests may hold together are refused until one ends", async () => {
  const { post } = testApp({ app: { bodyBytesInFlightMax: 1000 }, script: { tokenMs: 20 } });
  const body = { ...hello, user: "u".repeat(600) };
  const first = post("/v1/chat/completions", body);
  const refused = await post("/v1/chat/completions", body);
  assert.equal(refused.status, 429);
  assert.match((await refused.json()).error.message, /bytes of requests in flight exceed 1000/);
  assert.equal(refused.headers.get("retry-after"), "1");
  assert.equal((await first).status, 200);
  const stream = await post("/v1/chat/completions", { ...body, stream: true });
  assert.equal((await post("/v1/chat/completions", body)).status, 429, "a stream holds its body");
  await stream.text();
  assert.equal((await post("/v1/chat/completions", body)).status, 200);
});

Deno.test("bodies that are not UTF-8 are refused", async () => {
  const { app } = testApp();
  const response = await app.request("/tokenize", {
    method: "POST",
    headers: { "content-type": "application/json; charset=utf-8" },
    body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]),
  });
  assert.equal(response.status, 400);
  assert.match((await response.json()).error.message, /UTF-8/);
});

Deno.test("unknown fields are ignored and null counts as absent", async () => {
  const { post, generator } = testApp();
  const response = await post("/v1/chat/completions", {
    ...hello,
    user: "u",
    metadata: { a: 1 },
    store: true,
    not_a_field: { deeply: ["nested"] },
    temperature: null,
    stop: null,
    logit_bias: null,
    n: null,
    tools: [],
    response_format: { type: "text" },
  });
  assert.equal(response.status, 200);
  await response.body?.cancel();
  assert.equal(generator.submissions.length, 1);
});
