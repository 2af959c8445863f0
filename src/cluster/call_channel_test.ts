import assert from "node:assert/strict";
import { connect, HandClock, settle } from "./_peers.ts";
import { CallChannel, type CallOutcome, type UnnumberedCall } from "./call_channel.ts";
import { decodeCall, encodeResult, type ReceivedCall } from "./call_frames.ts";
import type { Connection, ReceivedFrame } from "./connection.ts";
import { decodeControl, encodeControl } from "./control_frames.ts";

const WIDTH = 1024;

function exampleCall(rows = 2): UnnumberedCall {
  return {
    epoch: 3,
    step: 1,
    layer: 5,
    width: WIDTH,
    encoding: "f32",
    reply: "pairs",
    replyEncoding: "f32",
    timeLeftMs: 100,
    choiceCounts: new Uint16Array(rows).fill(1),
    experts: new Uint16Array(rows).fill(7),
    weights: new Float32Array(),
    source: Float32Array.from({ length: rows * WIDTH }, (_, i) => i),
    rowIndex: [...Array(rows).keys()],
  };
}

function resultOf(call: ReceivedCall, change: { layer?: number } = {}) {
  const rowCount = call.choiceCounts.length;
  return encodeResult({
    ...{ callId: call.callId, epoch: call.epoch, step: call.step, layer: call.layer, ...change },
    ...{ rowCount, pairCount: rowCount, width: call.width, reply: "pairs" as const },
    values: call.rows.map((value) => 2 * value),
    queueMicros: 1,
    computeMicros: 2,
    replyEncoding: "f32",
  });
}

async function rig(take: (frame: ReceivedFrame, shard: Connection) => void | Promise<void>) {
  const { front, shard } = await connect({ clock: new HandClock() });
  shard.attach({ frame: (frame) => take(frame, shard), closed: () => {} });
  const ends: string[] = [];
  const messages: string[] = [];
  const channel = new CallChannel(front, {
    message: ({ type }) => messages.push(type),
    closed: ({ kind }) => ends.push(kind),
  });
  const outcomes: CallOutcome[] = [];
  const call = (rows?: number) => channel.call(exampleCall(rows), (end) => outcomes.push(end));
  return { channel, shard, ends, messages, outcomes, call };
}

Deno.test("CallChannel matches results to calls, in whatever order they come", async () => {
  const held: ReceivedCall[] = [];
  const { channel, shard, outcomes, call } = await rig((frame) =>
    void held.push(decodeCall(frame))
  );
  const ids = [call(1), call(2), call(3)];
  await settle();
  for (const received of held.reverse()) shard.send(resultOf(received));
  await settle();
  const results = outcomes.map((outcome) => outcome.type === "result" ? outcome.result : undefined);
  assert.deepEqual(results.map((result) => result?.callId), ids.reverse());
  assert.deepEqual(results.map((result) => result?.values[WIDTH - 1]), Array(3).fill(2 * 1023));
  assert.equal(channel.pendingCount, 0);
});

Deno.test("CallChannel hands refusals to their call and other messages to its owner", async () => {
  const { outcomes, messages, call } = await rig((frame, shard) => {
    const refusal = { reason: "unknown_expert", epoch: 9, retryAfterMs: 0, message: "" } as const;
    const { callId } = decodeCall(frame);
    shard.send(encodeControl({ type: "refusal", refusal: { ...refusal, callId } }));
    shard.send(encodeControl({ type: "report", text: "{}" }));
  });
  call();
  await settle();
  assert.equal(outcomes[0]?.type === "refusal" && outcomes[0].refusal.epoch, 9);
  assert.deepEqual(messages, ["report"]);
});

Deno.test("cancel() tells the shard, and a late result is dropped", async () => {
  const seen: string[] = [];
  let late: ReceivedCall | undefined;
  const { channel, shard, outcomes, call, ends } = await rig((frame) => {
    seen.push(frame.header.type);
    if (frame.header.type === "call") late = decodeCall(frame);
    else assert.deepEqual(decodeControl(frame), { type: "cancel", callId: 1 });
  });
  channel.cancel(call());
  channel.cancel(99);
  await settle();
  assert.deepEqual(seen, ["call", "cancel"]);
  shard.send(resultOf(late!));
  await settle();
  assert.deepEqual([outcomes, ends], [[], []]);
});

Deno.test("calls without credit wait in order, and a cancelled one is never sent", async () => {
  const release: (() => void)[] = [];
  const seen: number[] = [];
  const { channel, call, outcomes } = await rig((frame) => {
    if (frame.header.type !== "call") return;
    seen.push(frame.header.callId);
    return new Promise((resolve) => release.push(resolve));
  });
  // 13 rows of 4 KiB: two calls fit the window of 128 KiB.
  for (let i = 0; i < 6; i++) call(13);
  await settle();
  assert.deepEqual(seen, [1, 2]);
  channel.cancel(4);
  for (let i = 0; i < 5; i++) {
    release.splice(0).forEach((done) => done());
    await settle();
  }
  assert.deepEqual(seen, [1, 2, 3, 5, 6]);
  assert.deepEqual(outcomes, []);
});

Deno.test("all calls of a connection that ends are lost, later ones too", async () => {
  const { channel, shard, outcomes, ends, call } = await rig(() => {});
  call();
  call(13);
  await settle();
  shard.close();
  await settle();
  call();
  assert.equal(outcomes.length, 2, "not before call() has returned");
  await settle();
  const lost = { type: "lost", reason: "closed" };
  assert.deepEqual(outcomes, [lost, lost, lost]);
  assert.deepEqual(ends, ["remote"]);
  assert.equal(channel.pendingCount, 0);
});

Deno.test("a result that does not fit its call ends the connection", async () => {
  const { outcomes, ends, call } = await rig((frame, shard) => {
    shard.send(resultOf(decodeCall(frame), { layer: 6 }));
  });
  call();
  await settle();
  assert.deepEqual(ends, ["protocol"]);
  assert.deepEqual(outcomes, [{ type: "lost", reason: "closed" }]);
});
