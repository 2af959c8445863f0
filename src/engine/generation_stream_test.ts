import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { GenerationStream } from "./generation_stream.ts";
import type { EngineEvent } from "./request.ts";

function openStream() {
  const calls: string[] = [];
  const stream = new GenerationStream({
    finishChoice: (choice) => calls.push(`finish ${choice}`),
    onRead: () => calls.push("read"),
    onLeave: () => calls.push("leave"),
  });
  return { stream, calls };
}

function token(id: number): EngineEvent {
  return { type: "token", choice: 0, id, logprob: undefined, top: [] };
}

function prefill(computed: number): EngineEvent {
  return { type: "prefill", computed, total: 9, cached: 0 };
}

Deno.test("GenerationStream replaces unread progress by newer progress only", async () => {
  const { stream } = openStream();
  for (const event of [prefill(1), prefill(2), token(5), prefill(3)]) stream.push(event);
  stream.end();
  assert.deepEqual(await Array.fromAsync(stream), [prefill(2), token(5), prefill(3)]);
});

Deno.test("GenerationStream hands an event to a waiting reader", async () => {
  const { stream } = openStream();
  const first = stream.next();
  stream.push(token(1));
  assert.deepEqual(await first, { done: false, value: token(1) });
  const last = stream.next();
  stream.end();
  assert.deepEqual(await last, { done: true, value: undefined });
  assert.throws(() => stream.push(token(2)), /after the end/);
});

Deno.test("GenerationStream fails after the unread events, or at once when they are dropped", async () => {
  const error = new OperatingError("internal", "Cannot go on");
  const { stream } = openStream();
  stream.push(token(1));
  stream.fail(error);
  assert.deepEqual(await stream.next(), { done: false, value: token(1) });
  await assert.rejects(stream.next(), error);

  const dropped = openStream().stream;
  dropped.push(token(1));
  dropped.fail(error, { dropped: true });
  await assert.rejects(dropped.next(), error);

  const waiting = openStream().stream;
  const next = waiting.next();
  waiting.fail(error);
  await assert.rejects(next, error);
});

Deno.test("GenerationStream tells its owner of reads, leaving and finished choices", async () => {
  const { stream, calls } = openStream();
  stream.push(token(1));
  stream.push(token(2));
  stream.finishChoice(1);
  for await (const _event of stream) break;
  stream.finishChoice(2);
  assert.deepEqual(calls, ["finish 1", "read", "leave"]);
  assert.equal(stream.unread, 0);
});
