import assert from "node:assert/strict";
import { OPERATIONS } from "@/api/openapi.ts";
import { ROUTES } from "@/api/routes.ts";
import { FakeCluster } from "./fake_cluster.ts";
import { hello, json, say, testApp, tokenizer } from "./test_app.ts";

Deno.test("models route lists what is served with its abilities", async () => {
  const { app } = testApp();
  const list = await json(app.request("/v1/models"));
  assert.equal(list.object, "list");
  assert.equal(list.data[0].id, "tiny");
  assert.deepEqual(list.data[0].modalities, {
    input: ["text", "image", "video"],
    output: ["text"],
  });
  assert.equal(list.data[0].context_length, 2048);
  assert.deepEqual(await json(app.request("/v1/models/tiny")), list.data[0]);
  for (const id of ["org/huge", "%E0%A4%A", "tiny%2F"]) {
    const unknown = await app.request(`/v1/models/${id}`);
    assert.equal(unknown.status, 404);
    assert.equal((await unknown.json()).error.code, "model_not_found");
  }
});

Deno.test("tokenize route encodes texts with special tokens and conversations with pictures", async () => {
  const { post, generator } = testApp();
  const text = "<|im_start|>hi there";
  for (const add_special_tokens of [true, false]) {
    const { tokens, count } = await json(post("/tokenize", { prompt: text, add_special_tokens }));
    assert.deepEqual(tokens, tokenizer.encode(text));
    assert.equal(count, tokens.length);
  }
  assert.deepEqual((await json(post("/tokenize", { prompt: "" }))).tokens, []);
  const messages = [{
    role: "user",
    content: [{ type: "image_url", image_url: "data:,tiles=2" }, { type: "text", text: "?" }],
  }];
  const { tokens } = await json(post("/tokenize", { messages }));
  await json(post("/v1/chat/completions", { messages }));
  assert.deepEqual(tokens, generator.submissions[0]!.promptIds);
});

Deno.test("detokenize route gives the text back, special tokens included", async () => {
  const { post } = testApp();
  const text = "<|im_start|>né 中<think>";
  assert.deepEqual(await json(post("/detokenize", { tokens: say(text) })), { prompt: text });
  assert.deepEqual(await json(post("/detokenize", { tokens: [] })), { prompt: "" });
});

Deno.test("render route shows the prompt and the pictures' places without inference", async () => {
  const { post, generator } = testApp();
  const messages = [
    { role: "user", content: [{ type: "image_url", image_url: { url: "data:,tiles=3" } }] },
    { role: "assistant", content: "ok" },
    { role: "user", content: [{ type: "video", video: ["data:,a", "data:,b"] }] },
  ];
  const page = await json(post("/render", { messages }));
  assert.equal(generator.submissions.length, 0);
  assert.equal(page.prompt, tokenizer.decode(page.tokens));
  assert.equal(page.count, page.tokens.length);
  assert.equal(page.tiles, 5);
  assert.equal(page.image_tokens, 20);
  assert.deepEqual(page.images.map((image: { tiles: number }) => image.tiles), [3, 1, 1]);
  const [{ start, count }] = page.images[0].spans;
  const imageContext = tokenizer.tokenId("<IMG_CONTEXT>");
  assert.equal(count, 12);
  assert.ok(page.tokens.slice(start, start + count).every((id: number) => id === imageContext));
  assert.equal(page.images[1].field, "messages[2].content[0].video[0]");
});

Deno.test("health routes tell life from readiness", async () => {
  const state = { ready: false };
  const { app } = testApp({ app: { ready: () => state.ready, apiKeys: ["k"] } });
  assert.equal((await app.request("/livez")).status, 200);
  const starting = await app.request("/readyz");
  assert.equal(starting.status, 503);
  assert.equal((await starting.json()).error.code, "unavailable");
  state.ready = true;
  assert.equal((await app.request("/readyz")).status, 200);
});

Deno.test("metrics route counts answers by pattern and status", async () => {
  const { app, post } = testApp();
  await (await post("/v1/chat/completions", hello)).text();
  await (await post("/v1/chat/completions", { ...hello, stream: true })).text();
  await (await post("/v1/chat/completions", {})).text();
  await (await app.request("/v1/models/nope")).text();
  for (const path of ["/a", "/b"]) await (await app.request(path)).text();
  const response = await app.request("/metrics");
  assert.match(response.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  const total = (route: string, status: number) =>
    `flotilla_http_requests_total{route="${route}",status="${status}"}`;
  assert.ok(text.includes(`${total("/v1/chat/completions", 200)} 2\n`), text);
  assert.ok(text.includes(`${total("/v1/chat/completions", 400)} 1\n`));
  assert.ok(text.includes(`${total("/v1/models/:id{.+}", 404)} 1\n`));
  assert.ok(text.includes(`${total("unmatched", 404)} 2\n`));
});

Deno.test("every route refuses other methods with 405, Allow and the error shape", async () => {
  const { app } = testApp();
  for (const { method, path } of ROUTES) {
    const concrete = path.replace(":id{.+}", "tiny");
    for (const other of ["GET", "POST", "PUT", "DELETE", "PATCH"]) {
      if (other === method) continue;
      const response = await app.request(concrete, { method: other });
      assert.equal(response.status, 405, `${other} ${concrete}`);
      assert.ok(response.headers.get("allow")?.includes(method));
      assert.equal((await response.json()).error.code, "method_not_allowed");
    }
    const options = await app.request(concrete, { method: "OPTIONS" });
    assert.equal(options.status, 204);
    assert.ok(options.headers.get("allow")?.includes(method));
  }
});

Deno.test("HEAD answers like GET without a body", async () => {
  const { app } = testApp();
  const response = await app.request("/v1/models", { method: "HEAD" });
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "");
});

Deno.test("unknown paths answer 404 in the error shape", async () => {
  const { app } = testApp();
  for (
    const path of [
      "/",
      "/v1",
      "/v1/embeddings",
      "/v1/chat/completions/x",
      "/%00",
      "//livez",
      "/%E0%A4%A",
    ]
  ) {
    const response = await app.request(path, { method: "POST" });
    assert.equal(response.status, 404, path);
    assert.equal((await response.json()).error.code, "not_found");
  }
});

Deno.test("request ids are echoed when they are sane and made up otherwise", async () => {
  const { app } = testApp();
  const idOf = async (id?: string) => {
    const response = await app.request("/livez", {
      headers: id === undefined ? {} : { "x-request-id": id },
    });
    await response.body?.cancel();
    return response.headers.get("x-request-id");
  };
  assert.equal(await idOf("trace-1:a.b"), "trace-1:a.b");
  assert.match((await idOf())!, /^req_\w+$/);
  assert.match((await idOf("x".repeat(200)))!, /^req_\w+$/);
  assert.match((await idOf("white space"))!, /^req_\w+$/);
});

Deno.test("keys guard everything but the health routes", async () => {
  const cluster = new FakeCluster();
  const offer = { list: () => Promise.resolve({ model: "tiny", files: [] }), open: noFile };
  const offers = new Map([["tiny", offer]]);
  const { app } = testApp({ app: { apiKeys: ["alpha", "beta"], cluster, offers } });
  const statusOf = async (path: string, authorization?: string) => {
    const headers = authorization === undefined ? {} : { authorization };
    const response = await app.request(path, { headers });
    await response.body?.cancel();
    return response.status;
  };
  for (const { path, method, isPublic } of ROUTES) {
    if (method !== "GET") continue;
    const concrete = path.replace(/:id(\{\.\+\})?/, "tiny").replace(":name", "files.json");
    assert.equal(await statusOf(concrete), isPublic ? 200 : 401, path);
    assert.equal(await statusOf(concrete, "Bearer beta"), 200, path);
  }
  for (const bad of ["Bearer", "Bearer gamma", "Basic alpha", "alpha", "Bearer alpha2"]) {
    assert.equal(await statusOf("/v1/models", bad), 401, bad);
  }
  assert.equal(await statusOf("/v1/models", "bearer  alpha"), 200);
  assert.equal(await statusOf("/unknown"), 401, "unknown paths tell nothing");
  const { app: strict } = testApp({ app: { apiKeys: ["alpha"] } });
  const refused = await strict.request("/v1/chat/completions", { method: "POST", body: "{" });
  assert.equal(refused.status, 401, "before the body is read");
  assert.equal(refused.headers.get("www-authenticate"), "Bearer");
  assert.equal((await refused.json()).error.code, "invalid_api_key");
});

const noFile = () => Promise.reject(new Error("no file"));

Deno.test("browsers of other origins may call only when listed", async () => {
  const origin = "https://app.example";
  const headers = { origin, "access-control-request-method": "POST" };
  const closed = testApp();
  const none = await closed.app.request("/v1/models", { headers });
  assert.equal(none.headers.get("access-control-allow-origin"), null);
  const open = testApp({ app: { corsOrigins: [origin], apiKeys: ["k"] } });
  const preflight = await open.app.request("/v1/chat/completions", { method: "OPTIONS", headers });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), origin);
});

Deno.test("OpenAPI document covers exactly the routes, with their bodies", async () => {
  const { app } = testApp();
  const key = ({ method, path }: { method: string; path: string }) =>
    `${method.toLowerCase()} ${path.replace(/:(\w+)(\{\.\+\})?/g, "{$1}")}`;
  assert.deepEqual(OPERATIONS.map(key), ROUTES.map(key));
  const document = await json(app.request("/openapi.json"));
  assert.equal(document.openapi, "3.1.0");
  const chat = document.components.schemas.ChatCompletionRequest;
  assert.deepEqual(chat.required, ["messages"]);
  const temperature = JSON.stringify(chat.properties.temperature);
  assert.match(temperature, /"minimum":0.*"maximum":2/);
});

Deno.test("docs page is self-contained", async () => {
  const { app } = testApp();
  const page = await (await app.request("/docs")).text();
  assert.ok(page.includes("POST /v1/chat/completions") && page.includes("top_logprobs"));
  assert.ok(!/(src|href)="(https?:)?\/\//.test(page), "nothing comes from elsewhere");
});

Deno.test("requests without a model go to the default one", async () => {
  const { post, generator } = testApp();
  await json(post("/v1/chat/completions", { ...hello, model: null }));
  assert.equal(generator.submissions.length, 1);
});
