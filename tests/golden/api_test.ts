import { OperatingError } from "@/errors.ts";
import { hello, say, testApp, type TestAppOptions } from "../http/test_app.ts";
import { assertGolden } from "./golden_text.ts";

interface Transcript {
  readonly name: string;
  readonly path?: string;
  readonly body: Record<string, unknown>;
  readonly options?: TestAppOptions;
}

const COMPLETIONS = "/v1/completions";
const short: TestAppOptions = { script: { tokens: () => say("Hi é") } };

const TRANSCRIPTS: readonly Transcript[] = [
  { name: "chat", body: hello },
  {
    name: "chat_stream",
    body: { ...hello, stream: true, stream_options: { include_usage: true } },
    options: { script: { cachedTokens: 16 } },
  },
  {
    name: "chat_stream_thinking",
    body: { ...hello, stream: true, thinking: true, stream_options: { include_usage: true } },
    options: { script: { tokens: () => say("<think>\nsum\n</think>\n\n4") } },
  },
  {
    name: "chat_stream_everything",
    body: {
      ...hello,
      stream: true,
      n: 2,
      logprobs: true,
      top_logprobs: 2,
      return_token_ids: true,
      return_progress: true,
      max_tokens: 3,
    },
    options: { script: { tokens: () => say("Hi é"), prefillSteps: 2 } },
  },
  {
    name: "chat_stream_failure",
    body: { ...hello, stream: true },
    options: {
      script: {
        failure: { afterTokens: 1, error: new OperatingError("unavailable", "Engine lost a part") },
      },
    },
  },
  {
    name: "completion",
    path: COMPLETIONS,
    body: { prompt: [5, 6], logprobs: 2, echo: true, return_token_ids: true },
    options: short,
  },
  {
    name: "completion_stream",
    path: COMPLETIONS,
    body: {
      prompt: ["one", "two"],
      logprobs: 1,
      stream: true,
      stream_options: { include_usage: true },
    },
    options: short,
  },
  { name: "error", body: { ...hello, temperature: 3 } },
  {
    name: "render",
    path: "/render",
    body: {
      messages: [{
        role: "user",
        content: [{ type: "image_url", image_url: "data:,tiles=2" }, { type: "text", text: "?" }],
      }],
    },
  },
];

for (const { name, path = "/v1/chat/completions", body, options } of TRANSCRIPTS) {
  Deno.test(`${path} answers the transcript ${name}`, async () => {
    const response = await testApp(options).post(path, body, { "x-request-id": "golden" });
    const lines = [
      `POST ${path}`,
      JSON.stringify(body),
      "",
      `${response.status}`,
      ...[...response.headers].sort().map(([key, value]) => `${key}: ${value}`),
      "",
      await response.text(),
    ];
    await assertGolden(`${name}.txt`, lines.join("\n"));
  });
}

Deno.test("/openapi.json is the reviewed document", async () => {
  const response = await testApp().app.request("/openapi.json");
  await assertGolden("openapi.json", JSON.stringify(await response.json(), null, 2) + "\n");
});
