import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { END_TOKEN_ID, hello, json, parseEvents, say, testApp, tokenizer } from "./test_app.ts";

// deno-lint-ignore no-explicit-any
type Chunk = any;

async function streamOf(response: Promise<Response>): Promise<Chunk[]> {
  return parseEvents(await (await response).text());
}

Deno.test("chat completion answers with text, finish reason and usage", async () => {
  const { post, generator } = testApp({ script: { cachedTokens: 16 } });
  const answer = await json(post("/v1/chat/completions", { ...hello, model: "tiny" }));
  const [choice] = answer.choices;
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, "tiny");
  assert.deepEqual(choice.message, {
    role: "assistant",
    content: "Hello there!",
    refusal: null,
  });
  assert.equal(choice.finish_reason, "stop");
  const [submission] = generator.submissions;
  assert.equal(answer.usage.prompt_tokens, submission!.promptIds.length);
  assert.equal(answer.usage.completion_tokens, say("Hello there!").length + 1);
  assert.equal(answer.usage.prompt_tokens_details.cached_tokens, 16);
});

Deno.test("chat completion streams role, deltas, finish, usage and the end mark in order", async () => {
  const { post } = testApp();
  const response = await post("/v1/chat/completions", {
    ...hello,
    stream: true,
    stream_options: { include_usage: true },
  });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type")!, /^text\/event-stream/);
  const events = await streamOf(Promise.resolve(response));
  assert.deepEqual(events[0].choices[0].delta, { role: "assistant", content: "" });
  assert.equal(events.at(-1), "data: [DONE]");
  assert.deepEqual(events.at(-2).choices, []);
  assert.equal(events.at(-2).usage.completion_tokens, say("Hello there!").length + 1);
  assert.equal(events.at(-3).choices[0].finish_reason, "stop");
  const deltas = events.slice(1, -3);
  assert.ok(deltas.length > 1);
  assert.equal(deltas.map((event) => event.choices[0].delta.content).join(""), "Hello there!");
  assert.ok(events.slice(0, -2).every((event) => event.usage === null));
});

Deno.test("chat completion sends no usage unless asked", async () => {
  const { post } = testApp();
  const events = await streamOf(post("/v1/chat/completions", { ...hello, stream: true }));
  assert.ok(events.slice(0, -1).every((event) => !("usage" in event)));
  assert.equal(events.at(-2).choices[0].finish_reason, "stop");
});

Deno.test("chat completion places pictures where the prompt has their tokens", async () => {
  const { post, generator } = testApp();
  await json(post("/v1/chat/completions", {
    messages: [{
      role: "user",
      content: [
        { type: "image_url", image_url: { url: "data:,tiles=3" } },
        { type: "image_url", image_url: "data:,tiles=5;b" },
        { type: "image_url", image_url: { url: "data:,tiles=4;c", detail: "low" } },
        { type: "video", video: ["data:,tiles=9;d", "data:,e"] },
        { type: "video_url", video_url: { url: "data:,tiles=3;f" } },
        { type: "text", text: "what?" },
      ],
    }],
    max_tiles: 4,
  }));
  const { promptIds, tiles } = generator.submissions[0]!;
  const imageContext = tokenizer.tokenId("<IMG_CONTEXT>")!;
  const names = ["tiles=3#0", "tiles=3#1", "tiles=3#2"];
  names.push("tiles=5;b#0", "tiles=5;b#1", "tiles=5;b#2", "tiles=5;b#3");
  names.push("tiles=4;c#0", "tiles=9;d#0", "e#0", "tiles=3;f#0", "tiles=3;f#1", "tiles=3;f#2");
  assert.deepEqual(tiles.map((tile) => tile.hash), names);
  const covered = tiles.flatMap(({ start }) => [start, start + 1, start + 2, start + 3]);
  const placeholders = [...promptIds.keys()].filter((i) => promptIds[i] === imageContext);
  assert.deepEqual(covered, placeholders);
  assert.equal(tiles[1]!.pixels.length, 56 * 56 * 3);
  assert.ok(tiles[1]!.pixels.every((value) => value === 1), "the second tile's own pixels");
  const prompt = tokenizer.decode(promptIds).replaceAll("<IMG_CONTEXT>", "");
  const lines = "<img></img>\n<img></img>\n<img></img>\nFrame-1: <img></img>\nFrame-2: " +
    "<img></img>\nFrame-1: <img></img>\nFrame-2: <img></img>\nFrame-3: <img></img>\nwhat?";
  assert.ok(prompt.endsWith(`user\n${lines}<|im_end|><|im_start|>assistant\n`), prompt);
});

Deno.test("chat completion splits the thought from the answer", async () => {
  const tokens = say("<think>\nTwo and two.\n</think>\n\n\\boxed{4}");
  const { post, generator } = testApp({ script: { tokens: () => tokens } });
  const body = { ...hello, thinking: true };
  const { choices: [choice], usage } = await json(post("/v1/chat/completions", body));
  assert.equal(choice.message.reasoning_content, "Two and two.");
  assert.equal(choice.message.content, "\\boxed{4}");
  const thoughtLength = tokens.indexOf(tokenizer.tokenId("</think>")!) + 1;
  assert.equal(usage.completion_tokens_details.reasoning_tokens, thoughtLength);
  assert.match(tokenizer.decode(generator.submissions[0]!.promptIds), /Hi\nYou FIRST think/);

  const events = await streamOf(post("/v1/chat/completions", { ...body, stream: true }));
  const deltas = events.slice(0, -1).map((event) => event.choices[0].delta);
  assert.equal(deltas.map((delta) => delta.reasoning_content ?? "").join(""), "Two and two.");
  assert.equal(deltas.map((delta) => delta.content ?? "").join(""), "\\boxed{4}");
});

Deno.test("chat completion ends at a stop string across tokens and tells the engine", async () => {
  const tokens = say("one two three four");
  const { post, generator } = testApp({ script: { tokens: () => tokens } });
  const body = { ...hello, stop: ["wo th"], logprobs: true, return_token_ids: true };
  const { choices: [choice] } = await json(post("/v1/chat/completions", body));
  assert.equal(choice.message.content, "one t");
  assert.equal(choice.finish_reason, "stop");
  assert.deepEqual(generator.finishedChoices, [0]);
  assert.deepEqual(choice.token_ids, tokens.slice(0, choice.token_ids.length));
  const shown = choice.logprobs.content.map((entry: { token: string }) => entry.token).join("");
  assert.ok(shown.startsWith("one t") && !shown.includes("three"), shown);
});

Deno.test("chat completion reports log-probabilities as OpenAI does", async () => {
  const { post } = testApp({ script: { tokens: () => say("a é中") } });
  const body = { ...hello, logprobs: true, top_logprobs: 2 };
  const { choices: [choice] } = await json(post("/v1/chat/completions", body));
  const entries = choice.logprobs.content;
  const bytes = entries.flatMap((entry: { bytes: number[] }) => entry.bytes);
  assert.equal(new TextDecoder().decode(new Uint8Array(bytes)), "a é中");
  assert.equal(entries.length, say("a é中").length, "no entry for the end token");
  for (const [index, id] of say("a é中").entries()) {
    assert.equal(entries[index].logprob, 0 - (id % 8) / 8);
    assert.equal(entries[index].top_logprobs.length, 2);
    assert.equal(entries[index].top_logprobs[0].token, entries[index].token);
  }
});

Deno.test("chat completion interleaves choices by index", async () => {
  const texts = ["red", "green apple", "blue"];
  const { post } = testApp({ script: { tokens: (_, choice) => say(texts[choice]!) } });
  const whole = await json(post("/v1/chat/completions", { ...hello, n: 3 }));
  assert.deepEqual(
    whole.choices.map((choice: Chunk) => [choice.index, choice.message.content]),
    [...texts.entries()],
  );
  const events = await streamOf(post("/v1/chat/completions", { ...hello, n: 3, stream: true }));
  const contents = ["", "", ""];
  const reasons: unknown[] = [];
  for (const { choices: [{ index, delta, finish_reason: reason }] } of events.slice(0, -1)) {
    contents[index] += delta.content ?? "";
    if (reason !== null) reasons[index] = reason;
  }
  assert.deepEqual(contents, texts);
  assert.deepEqual(reasons, ["stop", "stop", "stop"]);
});

Deno.test("chat completion returns token ids with the end token, stream and whole alike", async () => {
  const { post, generator } = testApp();
  const body = { ...hello, return_token_ids: true };
  const { choices: [choice] } = await json(post("/v1/chat/completions", body));
  const expected = [...say("Hello there!"), END_TOKEN_ID];
  assert.deepEqual(choice.token_ids, expected);
  assert.deepEqual(choice.prompt_token_ids, generator.submissions[0]!.promptIds);
  const events = await streamOf(post("/v1/chat/completions", { ...body, stream: true }));
  const parts = events.slice(0, -1).map((event) => event.choices[0]);
  assert.deepEqual(parts.flatMap((part) => part.token_ids ?? []), expected);
  assert.equal(parts.filter((part) => "prompt_token_ids" in part).length, 1);
});

Deno.test("chat completion goes on after an end token when told to", async () => {
  const tokens = [...say("one"), END_TOKEN_ID, ...say(" two"), END_TOKEN_ID];
  const { post } = testApp({ script: { tokens: () => tokens } });
  const body = { ...hello, ignore_eos: true, max_tokens: tokens.length, return_token_ids: true };
  const { choices: [choice] } = await json(post("/v1/chat/completions", body));
  assert.deepEqual(choice.token_ids, tokens);
  assert.equal(choice.message.content, "one two");
  assert.equal(choice.finish_reason, "length");
});

Deno.test("chat completion keeps half characters together", async () => {
  const tokens = say("né 中国 🎉!");
  const { post } = testApp({ script: { tokens: () => tokens } });
  const events = await streamOf(post("/v1/chat/completions", { ...hello, stream: true }));
  const contents = events.slice(0, -1).map((event) => event.choices[0].delta.content ?? "");
  assert.equal(contents.join(""), "né 中国 🎉!");
  assert.ok(contents.every((content) => !content.includes("\ufffd")));
});

Deno.test("chat completion passes every sampling field to the engine", async () => {
  const { post, generator } = testApp();
  const given = {
    temperature: 0.5,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.1,
    presence_penalty: 0.25,
    frequency_penalty: -0.5,
    repetition_penalty: 1.2,
    logit_bias: { "17": -100, "4": 2.5 },
    seed: 7,
    max_completion_tokens: 9,
    min_tokens: 2,
    stop_token_ids: [33],
    logprobs: true,
    top_logprobs: 3,
  };
  await json(post("/v1/chat/completions", { ...hello, ...given }));
  assert.deepEqual(generator.submissions[0]!.params, {
    temperature: 0.5,
    topP: 0.9,
    topK: 40,
    minP: 0.1,
    presencePenalty: 0.25,
    frequencyPenalty: -0.5,
    repetitionPenalty: 1.2,
    logitBias: new Map([[17, -100], [4, 2.5]]),
    seed: 7,
    maxTokens: 9,
    minTokens: 2,
    stopTokenIds: [33],
    topLogprobs: 3,
    ignoreEos: false,
  });
});

Deno.test("chat completion is greedy and fills the context when nothing is said", async () => {
  const { post, generator } = testApp({ model: { contextTokens: 400 } });
  await json(post("/v1/chat/completions", { ...hello, temperature: null, max_tokens: null }));
  const { params, promptIds } = generator.submissions[0]!;
  assert.equal(params.temperature, 0);
  assert.equal(params.maxTokens, 400 - promptIds.length);
});

Deno.test("chat completion reports prefill progress when asked", async () => {
  const { post } = testApp({ script: { prefillSteps: 3 } });
  const body = { ...hello, stream: true };
  const events = await streamOf(post("/v1/chat/completions", { ...body, return_progress: true }));
  const progress = events.filter((event) => typeof event === "object" && "prefill" in event);
  assert.equal(progress.length, 3);
  const { computed, total } = progress[2].prefill;
  assert.equal(computed, total);
  assert.deepEqual(progress[0].choices, []);
  const silent = await streamOf(post("/v1/chat/completions", body));
  assert.ok(!silent.some((event) => typeof event === "object" && "prefill" in event));
});

Deno.test("chat completion pings while the engine is silent and answers at once", async () => {
  const { post } = testApp({ script: { prefillMs: 300 }, app: { streamPingMs: 50 } });
  const startMs = performance.now();
  const response = await post("/v1/chat/completions", { ...hello, stream: true });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const first = await reader.read();
  assert.ok(performance.now() - startMs < 250, "before the prefill is over");
  assert.match(first.value!, /"role":"assistant"/);
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
  const pings = text.split(": ping\n\n").length - 1;
  assert.ok(pings >= 3 && pings <= 7, `${pings} pings in 300 ms`);
  assert.ok(text.endsWith("data: [DONE]\n\n"));
});

Deno.test("chat completion turns a failure inside a stream into a typed event", async () => {
  const error = new OperatingError("unavailable", "Engine lost a part");
  const { post } = testApp({ script: { failure: { afterTokens: 1, error } } });
  const events = await streamOf(post("/v1/chat/completions", { ...hello, stream: true }));
  assert.deepEqual(events.at(-1), {
    error: {
      message: "Engine lost a part",
      type: "server_error",
      param: null,
      code: "unavailable",
    },
  });
  assert.ok(!events.includes("data: [DONE]"));
});

Deno.test("chat completion hides what an unknown exception says", async () => {
  const failure = { afterTokens: 0, error: new Error("secret path") };
  const { post } = testApp({ script: { failure } });
  const response = await post("/v1/chat/completions", hello, { "x-request-id": "abc" });
  assert.equal(response.status, 500);
  const text = await response.text();
  assert.ok(!text.includes("secret") && text.includes("abc"), text);
  const stream = await streamOf(post("/v1/chat/completions", { ...hello, stream: true }));
  assert.equal(stream.at(-1).error.code, "internal");
  assert.ok(!JSON.stringify(stream).includes("secret"));
});

Deno.test("chat completion answers 429 with Retry-After when the queue is full", async () => {
  const refusal = new OperatingError("overloaded", "Queue is full", { retryAfterSeconds: 3 });
  const { post } = testApp({ script: { refusal } });
  for (const stream of [false, true]) {
    const response = await post("/v1/chat/completions", { ...hello, stream });
    assert.equal(response.status, 429);
    assert.equal(response.headers.get("retry-after"), "3");
    assert.equal((await response.json()).error.type, "rate_limit_error");
  }
});

Deno.test("chat completion names the broken picture, also for streams", async () => {
  const content = [
    { type: "text", text: "look" },
    { type: "image_url", image_url: { url: "data:,broken" } },
  ];
  const { post } = testApp();
  for (const stream of [false, true]) {
    const messages = [{ role: "system", content: "s" }, { role: "user", content }];
    const response = await post("/v1/chat/completions", { messages, stream });
    assert.equal(response.status, 400);
    const { error } = await response.json();
    assert.equal(error.param, "messages[1].content[1].image_url.url");
    assert.equal(error.code, "invalid_media");
  }
});

Deno.test("chat completion does not let a slow picture hold the headers back", async () => {
  const content = [{ type: "image_url", image_url: { url: "data:,wait=1500;broken" } }];
  const { post } = testApp();
  const startMs = performance.now();
  const response = await post("/v1/chat/completions", {
    messages: [{ role: "user", content }],
    stream: true,
  });
  assert.equal(response.status, 200);
  assert.ok(performance.now() - startMs < 1200);
  const events = parseEvents(await response.text()) as Chunk[];
  assert.equal(events.at(-1).error.param, "messages[0].content[0].image_url.url");
});

Deno.test("chat completion closes a thought that exceeds its budget and goes on", async () => {
  const thought = say("<think>one two three four five six</think>never");
  const { post, generator } = testApp({
    script: {
      // The closing tokens make the continuation's prompt end in a closed thought.
      tokens: ({ promptIds }) => promptIds.at(-1) === say("\n\n")[0] ? say("done") : thought,
    },
  });
  const body = {
    ...hello,
    thinking: { budget: 4 },
    max_tokens: 50,
    n: 2,
    return_token_ids: true,
    messages: [{ role: "user", content: "q" }],
  };
  const { choices, usage } = await json(post("/v1/chat/completions", body));
  for (const { message, finish_reason: reason, token_ids: ids } of choices) {
    assert.equal(message.content, "done");
    assert.equal(`<think>${message.reasoning_content}`, tokenizer.decode(thought.slice(0, 4)));
    assert.equal(reason, "stop");
    const closing = say("\n</think>\n\n");
    assert.deepEqual(ids, [...thought.slice(0, 4), ...closing, ...say("done"), END_TOKEN_ID]);
  }
  assert.equal(generator.submissions.length, 3, "one for both thoughts, one per answer");
  assert.equal(generator.submissions[1]!.params.maxTokens, 50 - 4 - say("\n</think>\n\n").length);
  assert.equal(usage.completion_tokens, 2 * choices[0].token_ids.length);

  const short = await json(post("/v1/chat/completions", { ...body, n: 1, max_tokens: 5 }));
  assert.equal(short.choices[0].finish_reason, "length");
});
