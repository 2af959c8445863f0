import assert from "node:assert/strict";
import { END_TOKEN_ID, json, parseEvents, say, testApp, tokenizer } from "./test_app.ts";

// deno-lint-ignore no-explicit-any
type Chunk = any;

Deno.test("completion continues token ids as they are and returns the ids", async () => {
  const { post, generator } = testApp();
  const prompt = [5, 6, END_TOKEN_ID, 7];
  const answer = await json(post("/v1/completions", { prompt, return_token_ids: true }));
  const [choice] = answer.choices;
  assert.equal(answer.object, "text_completion");
  assert.deepEqual(generator.submissions[0]!.promptIds, prompt);
  assert.equal(choice.text, "Hello there!");
  assert.deepEqual(choice.token_ids, [...say("Hello there!"), END_TOKEN_ID]);
  assert.deepEqual(choice.prompt_token_ids, prompt);
  assert.equal(choice.finish_reason, "stop");
  assert.equal(answer.usage.prompt_tokens, 4);
});

Deno.test("completion matches special tokens in a text and leaves thoughts in it", async () => {
  const text = "<|im_start|>user\nhi<|im_end|>";
  const { post, generator } = testApp({ script: { tokens: () => say("<think>a</think>b") } });
  const { choices: [choice] } = await json(post("/v1/completions", { prompt: text }));
  assert.equal(generator.submissions[0]!.promptIds[0], tokenizer.tokenId("<|im_start|>"));
  assert.equal(choice.text, "<think>a</think>b");
});

Deno.test("completion numbers the choices of several prompts and sums their usage", async () => {
  const { post, generator } = testApp({
    script: { tokens: (request, choice) => say(`${tokenizer.decode(request.promptIds)}${choice}`) },
  });
  const answer = await json(post("/v1/completions", { prompt: ["a", "bc"], n: 2 }));
  assert.deepEqual(
    answer.choices.map((choice: Chunk) => [choice.index, choice.text]),
    [[0, "a0"], [1, "a1"], [2, "bc0"], [3, "bc1"]],
  );
  const promptTokens = say("a").length + say("bc").length;
  assert.equal(answer.usage.prompt_tokens, promptTokens);
  assert.equal(generator.submissions.length, 2);
  assert.equal(new Set(generator.submissions.map((submission) => submission.id)).size, 2);
});

Deno.test("completion streams several prompts with one usage and one end mark", async () => {
  const { post } = testApp({ script: { tokens: (request) => request.promptIds } });
  const response = await post("/v1/completions", {
    prompt: [say("red"), say("green")],
    stream: true,
    stream_options: { include_usage: true },
  });
  const events = (parseEvents(await response.text()) as Chunk[]).slice(1);
  const texts = ["", ""];
  for (const event of events.slice(0, -2)) texts[event.choices[0].index] += event.choices[0].text;
  assert.deepEqual(texts, ["red", "green"]);
  assert.equal(events.at(-2).usage.prompt_tokens, say("red").length + say("green").length);
  assert.equal(events.filter((event) => event === "data: [DONE]").length, 1);
});

Deno.test("completion reports log-probabilities in the old form", async () => {
  const { post } = testApp({ script: { tokens: () => say(" éa b") } });
  const { choices: [choice] } = await json(post("/v1/completions", { prompt: "x", logprobs: 2 }));
  const { tokens, token_logprobs: numbers, top_logprobs: top, text_offset: offsets } =
    choice.logprobs;
  const ids = say(" éa b");
  assert.equal(tokens.length, ids.length);
  assert.deepEqual(numbers, ids.map((id) => 0 - (id % 8) / 8));
  assert.ok(tokens[0] in top[0] && Object.keys(top[0]).length === 2);
  assert.equal(offsets[0], 0);
  const plain = tokens.findIndex((token: string) => token.includes("b"));
  assert.equal([...choice.text].slice(offsets[plain], offsets[plain] + 2).join(""), tokens[plain]);
});

Deno.test("completion echoes the prompt with its log-probabilities", async () => {
  const { post, generator } = testApp({ script: { tokens: () => say(" world") } });
  const body = { prompt: "hello there", echo: true, logprobs: 1, max_tokens: 5 };
  const { choices: [choice] } = await json(post("/v1/completions", body));
  assert.equal(generator.submissions[0]!.promptLogprobs, true);
  assert.equal(choice.text, "hello there world");
  const { tokens, token_logprobs: numbers, text_offset: offsets } = choice.logprobs;
  assert.equal(tokens.join(""), "hello there world");
  assert.equal(numbers[0], null);
  assert.ok(numbers.slice(1).every((number: number) => number <= 0));
  assert.equal(offsets[say("hello there").length], "hello there".length);
});

Deno.test("completion scores a prompt without an answer", async () => {
  const { post } = testApp();
  const body = { prompt: ["hello there", "x"], echo: true, logprobs: 0, max_tokens: 0 };
  const { choices, usage } = await json(post("/v1/completions", body));
  assert.deepEqual(choices.map((choice: Chunk) => choice.text), ["hello there", "x"]);
  assert.equal(choices[0].logprobs.tokens.length, say("hello there").length);
  assert.equal(choices[0].logprobs.top_logprobs, null);
  assert.equal(choices[0].finish_reason, "length");
  assert.equal(usage.completion_tokens, 0);
});

Deno.test("completion echoes without log-probabilities in a stream", async () => {
  const { post, generator } = testApp();
  const body = { prompt: "say: ", echo: true, stream: true };
  const response = await post("/v1/completions", body);
  const [opening, ...events] = parseEvents(await response.text()) as Chunk[];
  assert.equal(opening, ": open", "the first bytes do not wait for the engine");
  assert.equal(generator.submissions[0]!.promptLogprobs, false);
  assert.equal(events[0].choices[0].text, "say: ");
  const text = events.slice(0, -1).map((event) => event.choices[0].text).join("");
  assert.equal(text, "say: Hello there!");
});

Deno.test("completion stops the other prompts when one fails", async () => {
  const error = new Error("boom");
  const { post, generator } = testApp({
    script: {
      tokenMs: 1,
      tokens: (request) => {
        if (request.promptIds.length === 1) throw error;
        return new Array(500).fill(5);
      },
    },
  });
  const response = await post("/v1/completions", { prompt: [[5], [5, 5]], max_tokens: 500 });
  assert.equal(response.status, 500);
  await response.body?.cancel();
  assert.equal(generator.running, 0);
});
