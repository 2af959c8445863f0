/** Valid frames of every type, for the fuzzer to damage. It mutates nothing itself. */
import { encodeCall, encodeResult } from "@/cluster/call_frames.ts";
import { type ControlMessage, encodeControl } from "@/cluster/control_frames.ts";
import { createFrame, type OutgoingFrame, writeChecksum } from "@/cluster/frame.ts";
import { encodeReject, Handshake, type HandshakeOptions } from "@/cluster/handshake.ts";
import { HandshakeError } from "@/cluster/protocol_error.ts";

const load = {
  pendingCalls: 1,
  pendingRows: 2,
  pairsPerSecond: 3,
  busy: 0.5,
  memoryUsedBytes: 4,
  memoryMaxBytes: 5,
  draining: false,
};

const messages: readonly ControlMessage[] = [
  {
    type: "refusal",
    refusal: { callId: 1, reason: "wrong_epoch", epoch: 2, retryAfterMs: 3, message: "later" },
  },
  { type: "cancel", callId: 1 },
  { type: "ping", sentMs: 1 },
  { type: "pong", sentMs: 1, load },
  { type: "credit", bytes: 100 },
  { type: "assign", text: '{"fence":1,"serial":2,"epochMin":0,"epochMax":1,"keep":"0-7"}' },
  { type: "report", text: '{"node":"a","held":""}' },
  { type: "member", text: '{"id":"a"}' },
  { type: "drain", draining: true },
];

function callFrames(): OutgoingFrame[] {
  const shape = { callId: 1, epoch: 2, step: 3, layer: 4, width: 8 };
  const source = Float32Array.from({ length: 16 }, (_, i) => i - 7.5);
  const choices = { choiceCounts: Uint16Array.of(2, 1), experts: Uint16Array.of(3, 9, 4) };
  const frames: OutgoingFrame[] = [];
  for (const encoding of ["f32", "int8", "bf16"] as const) {
    for (const reply of ["pairs", "sums"] as const) {
      const weights = new Float32Array(reply === "sums" ? 3 : 0).fill(0.5);
      const replyEncoding = "f32" as const;
      const fields = { ...shape, ...choices, encoding, reply, replyEncoding, weights };
      frames.push(encodeCall({ ...fields, timeLeftMs: 5, source, rowIndex: [1, 0] }));
    }
  }
  for (const replyEncoding of ["f32", "bf16"] as const) {
    const values = new Float32Array(24).fill(1.5);
    const counts = { rowCount: 2, pairCount: 3, queueMicros: 4, computeMicros: 5 };
    frames.push(encodeResult({ ...shape, ...counts, reply: "pairs", values, replyEncoding }));
  }
  return frames;
}

/** Frames of an open connection, whole and with right checksums. */
export function openCorpus(): Uint8Array<ArrayBuffer>[] {
  const frames = [...callFrames(), ...messages.map(encodeControl)];
  frames.push(createFrame("call", 0));
  return frames.map(finished);
}

/** Frames of the handshake, from the dialer's side. */
export function handshakeCorpus(dialer: HandshakeOptions): Uint8Array<ArrayBuffer>[] {
  const frames = [...new Handshake(dialer).start().send, createFrame("accept", 0)];
  frames.push(createFrame("proof", 32), encodeReject(new HandshakeError("busy", "full")));
  return frames.map(finished);
}

function finished(frame: OutgoingFrame): Uint8Array<ArrayBuffer> {
  writeChecksum(frame);
  return frame.bytes.slice();
}
