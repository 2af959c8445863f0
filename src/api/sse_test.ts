import assert from "node:assert/strict";
import { eventStreamResponse } from "./sse.ts";

interface Harness {
  readonly text: Promise<string>;
  readonly ends: boolean[];
}

function collect(events: AsyncIterable<string>, pingMs: number, opensWithComment = false): Harness {
  const ends: boolean[] = [];
  const response = eventStreamResponse({
    events,
    pingMs,
    opensWithComment,
    describeError: (error) => `error ${(error as Error).message}`,
    onCancel: () => assert.fail("nobody cancels"),
    onEnd: (isComplete) => ends.push(isComplete),
  });
  return { text: response.text(), ends };
}

async function* after(delays: readonly number[]): AsyncGenerator<string> {
  for (const delay of delays) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    yield `${delay}`;
  }
}

Deno.test("eventStreamResponse() frames events and ends once", async () => {
  const { text, ends } = collect(after([0, 1]), 1000, true);
  assert.equal(await text, ": open\n\ndata: 0\n\ndata: 1\n\n");
  assert.deepEqual(ends, [true]);
});

Deno.test("eventStreamResponse() pings only in silence", async () => {
  const busy = await collect(after(new Array(20).fill(10)), 100).text;
  assert.ok(!busy.includes("ping"), busy);
  const silent = await collect(after([250]), 50).text;
  const pings = silent.split(": ping\n\n").length - 1;
  assert.ok(pings >= 2 && pings <= 5, `${pings} pings`);
  assert.ok(silent.endsWith("data: 250\n\n"));
});

Deno.test("eventStreamResponse() ends with what the source threw", async () => {
  async function* failing(): AsyncGenerator<string> {
    yield* after([0]);
    throw new Error("boom");
  }
  const { text, ends } = collect(failing(), 1000);
  assert.equal(await text, "data: 0\n\ndata: error boom\n\n");
  assert.deepEqual(ends, [true]);
});

Deno.test("eventStreamResponse() does not run ahead of a client that does not read", async () => {
  let pulled = 0;
  async function* many(): AsyncGenerator<string> {
    for (;; await Promise.resolve()) yield `${pulled++}`;
  }
  const ends: boolean[] = [];
  let cancels = 0;
  const response = eventStreamResponse({
    events: many(),
    pingMs: 5,
    opensWithComment: false,
    describeError: () => "",
    onCancel: () => cancels += 1,
    onEnd: (isComplete) => ends.push(isComplete),
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(pulled <= 2, `${pulled} events were made for nobody`);
  const reader = response.body!.getReader();
  const first = new TextDecoder().decode((await reader.read()).value);
  assert.equal(first, "data: 0\n\n", "no pings piled up");
  await reader.cancel();
  assert.equal(cancels, 1);
  assert.deepEqual(ends, [false]);
});
