import assert from "node:assert/strict";
import { hello, say, testApp, type TestAppOptions } from "./test_app.ts";

/** How soon the work of a client that left must end. */
const CANCEL_MS = 100;
/** A busy machine may delay one try; a missing abort fails them all. */
const TRIES = 3;

const image = (name: string) => ({ type: "image_url", image_url: { url: `data:,${name}` } });

interface Departure {
  readonly name: string;
  readonly path: string;
  readonly body: Record<string, unknown>;
  readonly options: TestAppOptions;
  /** What must be cancelled. */
  readonly work: "generation" | "picture";
  /** The client leaves after it read this much text of the answer. */
  readonly afterText?: RegExp;
}

const SLOW_PREFILL: TestAppOptions = { script: { prefillMs: 5000 } };
const SLOW_TOKENS: TestAppOptions = {
  script: { tokenMs: 10, tokens: () => new Array(1000).fill(say("a")[0]) },
};
const SLOW_PICTURE = { messages: [{ role: "user", content: [image("wait=5000")] }] };
const CHAT = "/v1/chat/completions";

const DEPARTURES: readonly Departure[] = [
  {
    name: "a whole answer in prefill",
    path: CHAT,
    body: hello,
    options: SLOW_PREFILL,
    work: "generation",
  },
  { name: "a whole answer", path: CHAT, body: hello, options: SLOW_TOKENS, work: "generation" },
  {
    name: "a stream in prefill",
    path: CHAT,
    body: { ...hello, stream: true },
    options: SLOW_PREFILL,
    work: "generation",
    afterText: /assistant/,
  },
  {
    name: "a stream",
    path: CHAT,
    body: { ...hello, stream: true },
    options: SLOW_TOKENS,
    work: "generation",
    afterText: /"content":"a/,
  },
  {
    name: "a whole answer while a picture loads",
    path: CHAT,
    body: SLOW_PICTURE,
    options: {},
    work: "picture",
  },
  {
    name: "a stream while a picture loads",
    path: CHAT,
    body: { ...SLOW_PICTURE, stream: true },
    options: {},
    work: "picture",
    afterText: /assistant/,
  },
  {
    name: "raw completions of several prompts",
    path: "/v1/completions",
    body: { prompt: ["a", "b", "c"], max_tokens: 900 },
    options: SLOW_TOKENS,
    work: "generation",
  },
  {
    name: "a raw stream",
    path: "/v1/completions",
    body: { prompt: ["a", "b"], max_tokens: 900, stream: true },
    options: SLOW_TOKENS,
    work: "generation",
    afterText: /"text":"a/,
  },
];

for (const departure of DEPARTURES) {
  Deno.test(`a client that leaves ${departure.name} ends its work at once`, async () => {
    const delays: number[] = [];
    while (delays.length < TRIES && !delays.some((ms) => ms < CANCEL_MS)) {
      delays.push(await leave(departure));
    }
    assert.ok(delays.some((ms) => ms < CANCEL_MS), `cancelled after ${delays} ms`);
  });
}

/** Milliseconds from the client's departure to the end of the work. */
async function leave({ path, body, options, work, afterText }: Departure): Promise<number> {
  const { app, generator, pictures } = testApp(options);
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, app.fetch);
  const client = new AbortController();
  const answer = fetch(`http://127.0.0.1:${server.addr.port}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: client.signal,
  });
  try {
    if (afterText === undefined) {
      answer.then((response) => response.body?.cancel(), () => {});
      await until(() => work === "picture" ? pictures.loads.length > 0 : generator.running > 0);
    } else {
      const reader = (await answer).body!.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; !afterText.test(text);) text += (await reader.read()).value ?? "";
      reader.read().catch(() => {});
    }
    const leftAtMs = performance.now();
    client.abort();
    const ends = work === "picture" ? pictures.cancelledAtMs : generator.cancelledAtMs;
    await until(() => ends.length > 0 && generator.running === 0);
    return Math.max(...ends) - leftAtMs;
  } finally {
    client.abort();
    await server.shutdown();
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let waitedMs = 0; !condition(); waitedMs += 2) {
    assert.ok(waitedMs < 3000, "it happens within three seconds");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

Deno.test("a client that stays gets its whole answer over a socket", async () => {
  const { app, generator } = testApp({ script: { tokenMs: 1 } });
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, app.fetch);
  try {
    for (const stream of [false, true]) {
      const response = await fetch(`http://127.0.0.1:${server.addr.port}${CHAT}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...hello, stream }),
      });
      const text = await response.text();
      assert.ok(stream ? text.endsWith("data: [DONE]\n\n") : text.includes("Hello there!"), text);
    }
    assert.equal(generator.cancelledAtMs.length, 0);
  } finally {
    await server.shutdown();
  }
});
