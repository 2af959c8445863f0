/**
 * A scripted stand-in for the HTTP API, for the page's tests only. It answers by the question's
 * text, so each test names the behaviour it wants, and keeps what the page sent.
 */
import { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { playgroundRoutes } from "./assets.ts";

export interface FakeApi {
  readonly app: Hono;
  /** Bodies of the chat requests so far. */
  readonly requests: Record<string, unknown>[];
  /** Streams that the client left before their end. */
  abandonedCount(): number;
}

export interface FakeApiOptions {
  /** Wanted bearer key; undefined asks for none. */
  readonly apiKey?: string;
  /** Pause between tokens. */
  readonly tokenMs?: number;
}

interface Script {
  readonly thinking?: string;
  readonly answer: string;
  /** Error event after the answer instead of a finish. */
  readonly failure?: string;
  /** Never ends by itself. */
  readonly endless?: boolean;
}

function scriptFor(body: string): Script {
  if (body.includes("forever")) return { answer: "and on ", endless: true };
  if (body.includes("break")) return { answer: "Half an ", failure: "The engine lost a worker" };
  if (body.includes("markup")) return { answer: '<img src=x onerror="document.title=1"> & <b>' };
  if (body.includes('"thinking":true')) {
    return { thinking: "First look at all of them closely.", answer: "Seven." };
  }
  return { answer: "The word is tree." };
}

export function fakeApi(options: FakeApiOptions = {}): FakeApi {
  const app = new Hono();
  const requests: Record<string, unknown>[] = [];
  const tokenMs = options.tokenMs ?? 5;
  let abandoned = 0;
  app.route("/", playgroundRoutes());
  app.use(async (context, next) => {
    const wanted = options.apiKey;
    if (wanted === undefined || context.req.header("Authorization") === `Bearer ${wanted}`) {
      return await next();
    }
    return context.json({ error: { message: "Missing or wrong API key", param: null } }, 401);
  });
  app.get("/v1/models", (context) =>
    context.json({
      data: [{ id: "nano", files: "/web/models/nano/" }, { id: "large", files: null }],
    }));
  app.post("/render", async (context) => {
    const { messages } = await context.req.json();
    const parts = messages[0].content.filter((part: { type: string }) => part.type === "image_url");
    const images = parts.map(() => ({
      grid: { columns: 3, rows: 2 },
      tiles: 7,
      spans: [{ start: 9, count: 768 }, { start: 800, count: 1024 }],
    }));
    return context.json({ prompt: "", images });
  });
  app.post("/v1/chat/completions", async (context) => {
    const body = await context.req.json();
    requests.push(body);
    const text = JSON.stringify(body.messages.at(-1)) + JSON.stringify({ thinking: body.thinking });
    if (text.includes("refuse")) {
      const message = "Prompt of 900 tokens exceeds the context of 512";
      return context.json({ error: { message, param: "messages" } }, 400);
    }
    const script = scriptFor(text);
    return streamSSE(context, async (stream) => {
      stream.onAbort(() => void abandoned++);
      const send = (data: unknown) => stream.writeSSE({ data: JSON.stringify(data) });
      const delta = (change: unknown) => send({ choices: [{ index: 0, delta: change }] });
      await stream.write(": ping\n\n");
      for (const computed of [64, 128]) {
        await send({ choices: [], prefill: { computed, total: 128, cached: 0 } });
        await stream.sleep(tokenMs);
      }
      for (const word of script.thinking?.split(/(?<= )/) ?? []) {
        await delta({ reasoning_content: word });
        await stream.sleep(tokenMs);
      }
      do {
        for (const word of script.answer.split(/(?<= )/)) {
          await delta({ content: word });
          await stream.sleep(tokenMs);
        }
      } while (script.endless && !stream.aborted);
      if (script.failure !== undefined) {
        return await send({ error: { message: script.failure, type: "server_error" } });
      }
      await send({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
      await send({ choices: [], usage: { prompt_tokens: 128, completion_tokens: 5 } });
      await stream.writeSSE({ data: "[DONE]" });
    });
  });
  return { app, requests, abandonedCount: () => abandoned };
}
