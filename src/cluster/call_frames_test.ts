import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import { seededRandom } from "@/random.ts";
import {
  answers,
  decodeCall,
  decodeResult,
  encodeCall,
  encodeResult,
  type ExpertCall,
  type ExpertResult,
  frameBytesOfCall,
  rowsPerCall,
} from "./call_frames.ts";
import { type Frame, type OutgoingFrame, readHeader } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

function arrived(frame: OutgoingFrame): Frame {
  const bytes = frame.bytes.slice();
  const header = readHeader(bytes, limits.clusterFrameBytesMax);
  return { header, body: bytes.subarray(48) };
}

function exampleCall(change: Partial<ExpertCall> = {}): ExpertCall {
  return {
    callId: 7,
    epoch: 2 ** 33,
    step: 5,
    layer: 47,
    width: 4,
    encoding: "f32",
    reply: "pairs",
    replyEncoding: "f32",
    timeLeftMs: 250.2,
    choiceCounts: Uint16Array.of(2, 1, 3),
    experts: Uint16Array.of(3, 127, 0, 1, 2, 65_535),
    weights: new Float32Array(),
    source: Float32Array.from({ length: 20 }, (_, i) => i / 3),
    rowIndex: [4, 0, 2],
    ...change,
  };
}

Deno.test("calls arrive as they were sent, for every encoding and form of reply", () => {
  for (const encoding of ["f32", "int8", "bf16"] as const) {
    for (const reply of ["pairs", "sums"] as const) {
      const weights = Float32Array.from({ length: reply === "sums" ? 6 : 0 }, (_, i) => i / 7);
      const call = exampleCall({ encoding, reply, weights });
      const frame = arrived(encodeCall(call));
      const got = decodeCall(frame);
      const { callId, epoch, step, layer, width, choiceCounts, experts } = call;
      const sent = { callId, epoch, step, layer, width, choiceCounts, experts, reply, weights };
      assert.deepEqual({ ...got, rows: undefined }, {
        ...sent,
        replyEncoding: "f32",
        timeLeftMs: 251,
        rows: undefined,
      });
      const rows = [4, 0, 2].flatMap((row) => [...call.source.subarray(row * 4, row * 4 + 4)]);
      got.rows.forEach((value, i) => {
        const error = encoding === "f32" ? 0 : 0.02 * Math.abs(rows[i]!) + 0.03;
        assert.ok(Math.abs(value - rows[i]!) <= error, `${encoding} ${value} of ${rows[i]}`);
      });
      const shape = { rows: 3, pairs: 6, width, encoding, reply, replyEncoding: "f32" as const };
      assert.equal(frame.body.length + 48, frameBytesOfCall(shape).call);
    }
  }
});

function exampleResult(change: Partial<ExpertResult> = {}): ExpertResult {
  const call = exampleCall();
  return {
    callId: call.callId,
    epoch: call.epoch,
    step: call.step,
    layer: call.layer,
    width: 4,
    rowCount: 3,
    pairCount: 6,
    reply: "pairs",
    values: Float32Array.from({ length: 24 }, (_, i) => i * 1.5),
    queueMicros: 12,
    computeMicros: 345,
    ...change,
  };
}

Deno.test("results arrive as they were sent, and are matched to their call", () => {
  const result = exampleResult();
  const got = decodeResult(arrived(encodeResult({ ...result, replyEncoding: "f32" })));
  assert.deepEqual(got, result);
  assert.ok(answers(got, exampleCall()));
  const changes: Partial<ExpertResult>[] = [{ callId: 8 }, { epoch: 1 }, { layer: 0 }];
  for (const change of [...changes, { rowCount: 2 }, { pairCount: 5 }, { width: 3 }]) {
    assert.ok(!answers({ ...got, ...change }, exampleCall()), JSON.stringify(change));
  }
  assert.ok(!answers({ ...got, reply: "sums" }, exampleCall()));
  const sums = exampleResult({ reply: "sums", values: Float32Array.of(...Array(12).keys()) });
  const half = decodeResult(arrived(encodeResult({ ...sums, replyEncoding: "bf16" })));
  assert.deepEqual([...half.values], [...Array(12).keys()]);
});

Deno.test("the body of a result starts its values at an aligned offset", () => {
  const { body } = arrived(encodeResult({ ...exampleResult(), replyEncoding: "f32" }));
  const { values } = decodeResult({
    ...arrived(encodeResult({ ...exampleResult(), replyEncoding: "f32" })),
  });
  assert.equal(values.byteOffset % 4, 0);
  assert.equal(values.buffer.byteLength, body.buffer.byteLength, "a view, not a copy");
});

/** What `decodeCall` says about a call whose body bytes were changed. */
function refusal(change: (body: Uint8Array, view: DataView) => void, call = exampleCall()): string {
  const frame = arrived(encodeCall(call));
  change(frame.body, new DataView(frame.body.buffer, frame.body.byteOffset));
  try {
    decodeCall(frame);
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return error.message;
  }
  return "accepted";
}

Deno.test("decodeCall() refuses counts and ids that contradict each other", () => {
  const counts = 8;
  const experts = counts + 6;
  assert.equal(refusal(() => {}), "accepted");
  assert.match(refusal((_, view) => view.setUint16(counts, 0, true)), /row 0 names 0 experts/);
  assert.match(refusal((_, view) => view.setUint16(counts, 7, true)), /row 0 names 7 experts of 6/);
  assert.match(refusal((_, view) => view.setUint16(counts, 1, true)), /6 pairs, rows name 5/);
  assert.match(refusal((_, view) => view.setUint16(experts, 127, true)), /expert 127 after 127/);
  assert.match(refusal((_, view) => view.setUint32(4, 2, true)), /results cannot be int8/);
  assert.match(refusal((_, view) => view.setUint32(4, 9, true)), /unknown row encoding 9/);
});

Deno.test("decodeCall() refuses bodies whose length is not that of their counts", () => {
  const frame = arrived(encodeCall(exampleCall()));
  const { header, body } = frame;
  const wrong: Frame[] = [
    { header, body: body.subarray(0, body.length - 4) },
    { header: { ...header, rows: 0 }, body },
    { header: { ...header, rows: 4 }, body },
    { header: { ...header, pairs: 60_000 }, body },
    { header: { ...header, width: 0xffff_ffff }, body },
    { header: { ...header, width: 0 }, body },
    { header: { ...header, encoding: 0 }, body },
    { header: { ...header, flags: 2 }, body },
  ];
  for (const bad of wrong) assert.throws(() => decodeCall(bad), ProtocolError);
  for (const bad of wrong) assert.throws(() => decodeResult(bad), ProtocolError);
});

Deno.test("decodeCall() refuses a small call that asks for a huge reply", () => {
  const pairs = 64;
  const width = 70_000;
  const call = exampleCall({
    width,
    encoding: "int8",
    choiceCounts: Uint16Array.of(pairs),
    experts: Uint16Array.from({ length: pairs }, (_, i) => i),
    source: new Float32Array(width),
    rowIndex: [0],
  });
  assert.match(refusal(() => {}, call), /its result of \d+ bytes exceeds/);
  const frame = arrived(encodeCall(exampleCall()));
  decodeCall(frame, 48 + 8 + 6 * 16);
  assert.throws(
    () => decodeCall(frame, 48 + 8 + 6 * 16 - 1),
    /its result of 152 bytes exceeds 151/,
  );
});

Deno.test("rowsPerCall() keeps calls and results within the frame size", () => {
  const random = seededRandom(3);
  for (let i = 0; i < 300; i++) {
    const shape = {
      choices: 1 + Math.floor(random() * 16),
      width: 1 + Math.floor(random() * 4096),
      encoding: (["f32", "int8", "bf16"] as const)[Math.floor(random() * 3)]!,
      reply: (["pairs", "sums"] as const)[Math.floor(random() * 2)]!,
      replyEncoding: (["f32", "bf16"] as const)[Math.floor(random() * 2)]!,
      frameBytesMax: 300_000 + Math.floor(random() * 4e6),
    };
    const rows = rowsPerCall(shape);
    const bytes = frameBytesOfCall({ ...shape, rows, pairs: rows * shape.choices });
    assert.ok(rows >= 1 && Math.max(bytes.call, bytes.result) <= shape.frameBytesMax);
    assert.ok(rows * shape.choices <= limits.clusterCallPairsMax);
  }
});
