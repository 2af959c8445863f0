/** What a visitor does, against the scripted API and without a browser. */
import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import type { EngineDescription, LoadOptions } from "@/web/flotilla.ts";
import { Conversation } from "./conversation.ts";
import { fakeApi, type FakeApiOptions } from "./fake_api.ts";
import type { EngineModule } from "./local_engine.ts";
import type { Picture } from "./picture.ts";

const noEngine = () => Promise.reject(new Error("no engine"));

/** A conversation with a scripted server behind a real socket, so that aborts are real. */
function open(options: FakeApiOptions & { loadEngine?: () => Promise<EngineModule> } = {}) {
  const api = fakeApi(options);
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, api.app.fetch);
  const origin = `http://127.0.0.1:${server.addr.port}`;
  let nowMs = 0;
  const conversation = new Conversation({
    fetch: (input, init) => fetch(`${origin}${input}`, init),
    nowMs: () => nowMs += 10,
    loadEngine: options.loadEngine ?? noEngine,
  });
  return { api, conversation, [Symbol.asyncDispose]: () => server.shutdown() };
}

const picture = (id: number): Picture => ({
  id,
  name: `${id}.png`,
  url: "data:image/png;base64,AA==",
  widthPixels: 8,
  heightPixels: 8,
});

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !condition(); i++) await new Promise((done) => setTimeout(done, 5));
  assert.ok(condition(), `still not: ${condition}`);
}

Deno.test("Conversation.connect() chooses the first model", async () => {
  await using page = open();
  const { conversation } = page;
  await conversation.connect();
  assert.deepEqual(conversation.state().models, ["nano", "large"]);
  assert.equal(conversation.state().model, "nano");
  assert.equal(conversation.state().server, "ready");
});

Deno.test("Conversation.connect() tells a missing key apart from a missing server", async () => {
  await using page = open({ apiKey: "secret" });
  const { conversation } = page;
  await conversation.connect();
  assert.equal(conversation.state().server, "locked");
  conversation.setApiKey("secret");
  await conversation.connect();
  assert.equal(conversation.state().server, "ready");
  const dead = new Conversation({
    fetch: () => Promise.reject(new TypeError("connection refused")),
    nowMs: () => 0,
    loadEngine: noEngine,
  });
  await dead.connect();
  assert.equal(dead.state().server, "offline");
  assert.match(dead.state().notice ?? "", /Cannot reach the server/);
});

Deno.test("Conversation.send() streams an answer with its facts", async () => {
  await using page = open();
  const { api, conversation } = page;
  await conversation.connect();
  const progress: number[] = [];
  conversation.subscribe(() => {
    const processed = conversation.state().turns[0]?.progress?.processed;
    if (processed !== undefined && processed !== progress.at(-1)) progress.push(processed);
  });
  await conversation.send("What word?");
  const turn = conversation.state().turns[0];
  assert.equal(turn?.answer, "The word is tree.");
  assert.equal(turn?.state, "done");
  assert.equal(turn?.finishReason, "stop");
  assert.deepEqual(turn?.usage, { promptTokens: 128, completionTokens: 5, cachedTokens: 0 });
  assert.ok(turn.firstTokenMs !== undefined && turn.firstTokenMs < turn.elapsedMs);
  assert.deepEqual(progress, [64, 128]);
  assert.equal(api.requests[0]?.model, "nano");
  assert.equal(conversation.busy, false);
});

Deno.test("Conversation.send() carries earlier answers but no failed question", async () => {
  await using page = open();
  const { api, conversation } = page;
  await conversation.send("one");
  await conversation.send("refuse this");
  assert.equal(conversation.state().turns[1]?.state, "failed");
  assert.equal(
    conversation.state().turns[1]?.error,
    "Prompt of 900 tokens exceeds the context of 512 (messages)",
  );
  await conversation.send("two");
  const roles = (api.requests[2]?.messages as { role: string; content: string }[])
    .map(({ role, content }) => `${role}: ${content}`);
  assert.deepEqual(roles, ["user: one", "assistant: The word is tree.", "user: two"]);
});

Deno.test("Conversation.send() separates thinking from the answer", async () => {
  await using page = open();
  const { conversation } = page;
  conversation.setSettings({ thinking: true });
  await conversation.send("How many?");
  const turn = conversation.state().turns[0];
  assert.equal(turn?.thinking, "First look at all of them closely.");
  assert.equal(turn?.answer, "Seven.");
});

Deno.test("Conversation.send() keeps the half answer of a broken stream and says why", async () => {
  await using page = open();
  const { conversation } = page;
  await conversation.send("break");
  const turn = conversation.state().turns[0];
  assert.equal(turn?.answer, "Half an ");
  assert.equal(turn?.state, "failed");
  assert.equal(turn?.error, "The engine lost a worker");
});

Deno.test("Conversation.stop() ends the stream at both ends and keeps the text", async () => {
  await using page = open();
  const { api, conversation } = page;
  const sent = conversation.send("forever");
  await until(() => (conversation.state().turns[0]?.answer.length ?? 0) > 20);
  conversation.stop();
  await sent;
  const turn = conversation.state().turns[0];
  assert.equal(turn?.state, "stopped");
  assert.equal(turn?.error, undefined);
  await until(() => api.abandonedCount() === 1);
});

Deno.test("Conversation.retry() replaces the last turn", async () => {
  await using page = open();
  const { api, conversation } = page;
  await conversation.send("refuse");
  await conversation.retry();
  assert.equal(conversation.state().turns.length, 1);
  assert.equal(api.requests.length, 2);
});

Deno.test("Conversation.addPictures() learns the tile grid and bounds the draft", async () => {
  await using page = open();
  const { conversation } = page;
  conversation.addPictures([picture(1), picture(2)]);
  await until(() => conversation.state().grids.size === 2);
  assert.deepEqual(conversation.state().grids.get(2), {
    columns: 3,
    rows: 2,
    tileCount: 7,
    tokenCount: 1792,
  });
  conversation.addPictures(Array.from({ length: 20 }, (_, i) => picture(10 + i)));
  assert.equal(conversation.state().draft.length, 16);
  assert.match(conversation.state().notice ?? "", /At most 16/);
  await until(() => conversation.state().grids.size === 16);
});

const description: EngineDescription = {
  ...{
    model: "nano",
    backend: "wasm" as const,
    variant: "simd128",
    reason: "requested",
    threads: 1,
  },
  ...{ numericClass: "fake", contextTokens: 64, isKept: true },
};

/** An engine for pages that answers with a scripted API of its own, and what was asked of it. */
function fakeEngine(options: { fails?: boolean } = {}) {
  const api = fakeApi();
  const state = { closed: 0, sources: [] as LoadOptions["source"][], isLost: false };
  const engineFetch = (input: RequestInfo | URL, init?: RequestInit) =>
    state.isLost
      ? Promise.reject(new OperatingError("unavailable", "Cannot run the engine's worker"))
      : Promise.resolve(api.app.request(String(input), init));
  const module: EngineModule = {
    loadModel: ({ source, onProgress, signal }) => {
      signal?.throwIfAborted();
      state.sources.push(source);
      if (options.fails) {
        return Promise.reject(new OperatingError("unavailable", "Cannot find memory"));
      }
      onProgress?.({ phase: "download", doneBytes: 1, totalBytes: 2 });
      return Promise.resolve({
        description,
        fetch: engineFetch as typeof fetch,
        chat: () => assert.fail("the page asks through fetch"),
        close: () => void state.closed++,
      });
    },
    keptModels: () => Promise.resolve([{ url: "http://kept.test/", model: "nano", totalBytes: 1 }]),
  };
  return { api, state, loadEngine: () => Promise.resolve(module) };
}

Deno.test("Conversation.runHere() has the page's own engine answer, until it is ended", async () => {
  const engine = fakeEngine();
  await using page = open({ loadEngine: engine.loadEngine });
  const { api, conversation } = page;
  await conversation.connect();
  const phases: string[] = [];
  conversation.subscribe(() => phases.push(conversation.state().local.phase));
  await conversation.runHere();
  assert.deepEqual([...new Set(phases)], ["off", "loading", "on"]);
  assert.deepEqual(engine.state.sources, ["/web/models/nano/"]);
  await conversation.send("What word?");
  assert.deepEqual([engine.api.requests.length, api.requests.length], [1, 0]);
  assert.equal(conversation.state().turns[0]!.ranHere, true);
  assert.equal(conversation.state().turns[0]!.answer, "The word is tree.");
  conversation.setModel("large");
  assert.equal(conversation.state().local.phase, "off");
  assert.equal(engine.state.closed, 1);
  await conversation.send("And now?");
  assert.deepEqual([engine.api.requests.length, api.requests.length], [1, 1]);
});

Deno.test("Conversation.runHere() leaves the server to answer when it fails", async () => {
  await using page = open({ loadEngine: fakeEngine({ fails: true }).loadEngine });
  const { api, conversation } = page;
  await conversation.connect();
  await conversation.runHere();
  assert.equal(conversation.state().local.phase, "off");
  assert.match(
    conversation.state().notice ?? "",
    /Cannot find memory. The server answers instead$/,
  );
  await conversation.send("What word?");
  assert.equal(api.requests.length, 1);
});

Deno.test("Conversation.send() goes back to the server when the page's engine is lost", async () => {
  const engine = fakeEngine();
  await using page = open({ loadEngine: engine.loadEngine });
  const { api, conversation } = page;
  await conversation.connect();
  await conversation.runHere();
  engine.state.isLost = true;
  await conversation.send("What word?");
  assert.equal(conversation.state().turns[0]!.error, "Cannot run the engine's worker");
  assert.equal(conversation.state().local.phase, "off");
  assert.match(conversation.state().notice ?? "", /the server answers from now on/);
  await conversation.retry();
  assert.equal(conversation.state().turns[0]!.answer, "The word is tree.");
  assert.equal(api.requests.length, 1);
});

Deno.test("Conversation.runHere() takes the kept model when the server is gone", async () => {
  const engine = fakeEngine();
  const conversation = new Conversation({
    fetch: () => Promise.reject(new TypeError("connection refused")),
    nowMs: () => 0,
    loadEngine: engine.loadEngine,
  });
  await conversation.connect();
  await conversation.runHere();
  assert.deepEqual(engine.state.sources, [{ kept: "http://kept.test/" }]);
  assert.deepEqual(conversation.state().models, ["nano"]);
  await conversation.send("What word?");
  assert.equal(conversation.state().turns[0]!.answer, "The word is tree.");
});

Deno.test("Conversation.runOnServer() ends loading", async () => {
  const engine = fakeEngine();
  await using page = open({
    loadEngine: async () => {
      await new Promise((done) => setTimeout(done, 20));
      return await engine.loadEngine();
    },
  });
  const { conversation } = page;
  await conversation.connect();
  const running = conversation.runHere();
  assert.equal(conversation.state().local.phase, "loading");
  conversation.runOnServer();
  await running;
  assert.equal(conversation.state().local.phase, "off");
  assert.equal(conversation.state().notice, undefined);
});
