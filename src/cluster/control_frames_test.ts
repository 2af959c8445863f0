import assert from "node:assert/strict";
import { limits } from "@/limits.ts";
import {
  type ControlMessage,
  decodeControl,
  encodeControl,
  refusalReasons,
} from "./control_frames.ts";
import { createFrame, type Frame, type OutgoingFrame, readHeader } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

function arrived(frame: OutgoingFrame): Frame {
  const bytes = frame.bytes.slice();
  return { header: readHeader(bytes, limits.clusterFrameBytesMax), body: bytes.subarray(48) };
}

const load = {
  pendingCalls: 3,
  pendingRows: 100,
  pairsPerSecond: 1234.5,
  busy: 0.75,
  memoryUsedBytes: 5e9,
  memoryMaxBytes: 8e9,
  draining: true,
};

const messages: readonly ControlMessage[] = [
  ...refusalReasons.map((reason) => ({
    type: "refusal" as const,
    refusal: { callId: 9, reason, epoch: 4, retryAfterMs: 20, message: "zu spät ✓" },
  })),
  { type: "cancel", callId: 0xffff_ffff },
  { type: "ping", sentMs: 1234.567 },
  { type: "pong", sentMs: 0.25, load },
  { type: "pong", sentMs: 0.25, load: undefined },
  { type: "credit", bytes: 1 << 30 },
  { type: "assign", text: "spät ✓" },
  { type: "report", text: "" },
  { type: "member", text: "x".repeat(30_000) },
  { type: "drain", draining: true },
  { type: "drain", draining: false },
];

Deno.test("control messages arrive as they were sent", () => {
  for (const message of messages) {
    assert.deepEqual(decodeControl(arrived(encodeControl(message))), message);
  }
});

Deno.test("decodeControl() refuses bodies that are cut or too long", () => {
  for (const message of messages) {
    const { header, body } = arrived(encodeControl(message));
    for (let length = 0; length < body.length; length += length < 300 ? 1 : 997) {
      const cut = { header, body: body.slice(0, length) };
      assert.throws(() => decodeControl(cut), ProtocolError, `${message.type} of ${length}`);
    }
    const long = { header, body: new Uint8Array([...body, 0]) };
    assert.throws(() => decodeControl(long), ProtocolError, message.type);
  }
});

Deno.test("decodeControl() refuses unknown names, broken text, impossible numbers and calls", () => {
  const refused = (message: ControlMessage, at: number, bytes: number[]) => {
    const frame = arrived(encodeControl(message));
    frame.body.set(bytes, at);
    assert.throws(() => decodeControl(frame), ProtocolError);
  };
  refused(messages[0]!, 0, [99]); // reason
  refused(messages[0]!, 7, [0xff]); // text that is not UTF-8
  refused(messages[0]!, 5, [0xff, 0xff]); // text length
  refused({ type: "ping", sentMs: 1 }, 6, [0xf0, 0x7f]); // infinity
  const text: ControlMessage = { type: "assign", text: "plan" };
  refused(text, 0, [0xff, 0xff, 0xff, 0xff]); // more characters than bytes
  refused(text, 5, [0xff]); // text that is not UTF-8
  assert.throws(() => decodeControl(arrived(createFrame("call", 0))), ProtocolError);
});

Deno.test("long texts are cut at a character, not refused", () => {
  const message = "ä".repeat(limits.clusterTextBytesMax);
  const refusal = { callId: 1, reason: "failed" as const, epoch: 0, retryAfterMs: 0, message };
  const got = decodeControl(arrived(encodeControl({ type: "refusal", refusal })));
  assert.equal(got.type === "refusal" && got.refusal.message, message.slice(0, 256));
});
