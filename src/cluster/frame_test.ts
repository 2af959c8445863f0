import assert from "node:assert/strict";
import { seededRandom } from "@/random.ts";
import {
  createFrame,
  type FrameHeader,
  HEADER_BYTES,
  type OutgoingFrame,
  writeChecksum,
} from "./frame.ts";
import { type DecodedFrame, FrameDecoder } from "./frame_decoder.ts";
import { ProtocolError, type ProtocolViolation } from "./protocol_error.ts";

const FRAME_BYTES_MAX = 1 << 16;

function finished(type: OutgoingFrame["type"], body: number[], fields = {}): Uint8Array {
  const frame = createFrame(type, body.length, fields);
  frame.body.set(body);
  writeChecksum(frame);
  return frame.bytes;
}

function collector(admitted: FrameHeader[] = []) {
  const frames: DecodedFrame[] = [];
  const decoder = new FrameDecoder(FRAME_BYTES_MAX, {
    admit: (header) => admitted.push(header),
    frame: (frame) => frames.push(frame),
  });
  return { frames, decoder };
}

function violationOf(bytes: Uint8Array): ProtocolViolation | undefined {
  try {
    collector().decoder.push(bytes);
  } catch (error) {
    assert.ok(error instanceof ProtocolError, String(error));
    return error.violation;
  }
  return undefined;
}

Deno.test("FrameDecoder gives the same frames for every way of cutting the stream", () => {
  const fields = { epoch: 2 ** 40 + 7, callId: 0xffff_ffff, step: 3, layer: 4, rows: 5, width: 6 };
  const parts = [
    finished("call", [1, 2, 3], { ...fields, pairs: 9, flags: 2, encoding: 1 }),
    finished("cancel", []),
    finished("report", Array.from({ length: 300 }, (_, i) => i & 255)),
  ];
  const stream = new Uint8Array(parts.flatMap((part) => [...part]));
  const random = seededRandom(1);
  for (let round = 0; round < 200; round++) {
    const { frames, decoder } = collector();
    for (let at = 0; at < stream.length;) {
      const length = round === 0 ? 1 : Math.ceil(random() * (round % 3 ? 100 : 10));
      decoder.push(stream.subarray(at, at + length));
      at += length;
    }
    assert.ok(decoder.idle);
    assert.deepEqual(frames.map((frame) => frame.header.type), ["call", "cancel", "report"]);
    const call = { ...fields, type: "call", pairs: 9, flags: 2, encoding: 1, bodyBytes: 3 };
    assert.deepEqual(frames[0]!.header, call);
    assert.deepEqual([...frames[0]!.body], [1, 2, 3]);
    assert.equal(frames[2]!.body[299], 299 & 255);
    assert.ok(frames.every(({ body }) => body.byteOffset % 16 === 0));
  }
});

Deno.test("FrameDecoder names what is wrong with a frame", () => {
  const changed = (at: number, value: number) => {
    const bytes = finished("ping", [1, 2, 3, 4]);
    bytes[at] = value;
    return violationOf(bytes);
  };
  assert.equal(changed(0, 0), "magic");
  assert.equal(changed(4, 9), "version");
  assert.equal(changed(5, 99), "type");
  assert.equal(changed(6, 128), "flags");
  assert.equal(changed(15, 255), "body"); // an epoch that a number cannot hold
  assert.equal(changed(30, 255), "size"); // rows
  assert.equal(changed(42, 255), "size"); // body
  assert.equal(changed(20, 1), "checksum");
  assert.equal(changed(HEADER_BYTES, 0), "checksum");
  assert.equal(changed(44, 77), "checksum");
  assert.equal(changed(5, 32), undefined);
});

Deno.test("FrameDecoder finds every flipped bit of a frame", () => {
  const clean = finished("cancel", [], { callId: 1 });
  for (let bit = 0; bit < clean.length * 8; bit++) {
    const bytes = clean.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    const { frames, decoder } = collector();
    try {
      decoder.push(bytes);
    } catch (error) {
      assert.ok(error instanceof ProtocolError);
    }
    // A changed length or flag may leave the decoder waiting for more; it never yields a frame.
    assert.equal(frames.length, 0, `bit ${bit}`);
  }
});

Deno.test("FrameDecoder refuses a frame before it allocates its body", () => {
  const header = finished("call", []).slice();
  new DataView(header.buffer).setUint32(40, FRAME_BYTES_MAX, true);
  assert.equal(violationOf(header), "size");
  const control = finished("ping", []).slice();
  new DataView(control.buffer).setUint32(40, 5000, true); // beyond clusterControlBytesMax
  assert.equal(violationOf(control), "size");
  const decoder = new FrameDecoder(FRAME_BYTES_MAX, {
    admit: ({ bodyBytes }) => {
      throw new ProtocolError("window", `no room for ${bodyBytes}`);
    },
    frame: () => assert.fail("not admitted"),
  });
  assert.throws(() => decoder.push(finished("call", [1])), /no room for 1/);
});
