/**
 * Damages cluster frames from a seed and feeds them to the decoders and to a live connection. The
 * only acceptable outcomes are a frame that decodes within its bounds and a typed ProtocolError.
 */
import assert from "node:assert/strict";
import { decodeCall, decodeResult } from "@/cluster/call_frames.ts";
import { decodeControl } from "@/cluster/control_frames.ts";
import { type Frame, HEADER_BYTES, type OutgoingFrame, writeChecksum } from "@/cluster/frame.ts";
import { FrameDecoder } from "@/cluster/frame_decoder.ts";
import { ProtocolError } from "@/cluster/protocol_error.ts";
import { seededRandom } from "@/random.ts";

const FRAME_BYTES_MAX = 1 << 16;

/** Words that arithmetic on sizes gets wrong first. */
const words = [0, 1, 2, 3, 255, 256, 4096, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

export type Random = () => number;

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

type Bytes = Uint8Array<ArrayBuffer>;

/** Each returns the damaged bytes; they may change their argument. */
const mutations: readonly ((random: Random, bytes: Bytes, other: Bytes) => Bytes)[] = [
  function flipBits(random, bytes) {
    for (let i = 1 + below(random, 4); i > 0; i--) {
      bytes[below(random, bytes.length)]! ^= 1 << below(random, 8);
    }
    return bytes;
  },
  function setByte(random, bytes) {
    bytes[below(random, bytes.length)] = below(random, 256);
    return bytes;
  },
  function setHeaderWord(random, bytes) {
    const word = words[below(random, words.length)]!;
    new DataView(bytes.buffer).setUint32(4 * below(random, HEADER_BYTES / 4), word, true);
    return bytes;
  },
  function setBodyWord(random, bytes) {
    const places = bytes.length - HEADER_BYTES - 3;
    if (places <= 0) return bytes;
    const word = words[below(random, words.length)]!;
    new DataView(bytes.buffer).setUint32(HEADER_BYTES + below(random, places), word, true);
    return bytes;
  },
  function changeType(random, bytes, other) {
    bytes[5] = random() < 0.7 ? other[5]! : below(random, 256);
    return bytes;
  },
  function cut(random, bytes) {
    return bytes.slice(0, HEADER_BYTES + below(random, bytes.length - HEADER_BYTES + 1));
  },
  function extend(random, bytes) {
    const longer = new Uint8Array(bytes.length + 1 + below(random, 64));
    longer.set(bytes);
    return longer;
  },
  function splice(random, bytes, other) {
    const at = below(random, bytes.length);
    bytes.set(other.subarray(0, bytes.length - at), at);
    return bytes;
  },
  function joinBodies(_random, bytes, other) {
    const joined = new Uint8Array(bytes.length + other.length - HEADER_BYTES);
    joined.set(bytes);
    joined.set(other.subarray(HEADER_BYTES), bytes.length);
    return joined;
  },
];

/** One damaged frame; in most cases with its length and checksum made right again. */
export function damagedFrame(random: Random, corpus: readonly Bytes[]): Bytes {
  const pick = () => corpus[below(random, corpus.length)]!;
  let bytes = pick().slice();
  for (let i = below(random, 4); i > 0; i--) {
    bytes = mutations[below(random, mutations.length)]!(random, bytes, pick());
    if (bytes.length < HEADER_BYTES) return bytes;
  }
  if (random() < 0.8) new DataView(bytes.buffer).setUint32(40, bytes.length - HEADER_BYTES, true);
  if (random() < 0.95) {
    const frame: OutgoingFrame = { type: "call", bytes, body: bytes.subarray(HEADER_BYTES) };
    writeChecksum(frame);
  }
  return bytes;
}

/** Reads a frame's body with the decoder of its type and checks what came out against its size. */
export function readBody(frame: Frame): void {
  const { type } = frame.header;
  const inputBytes = frame.body.length;
  if (type === "call") {
    const call = decodeCall(frame);
    assert.ok(call.rows.byteLength <= 4 * inputBytes, "int8 rows grow fourfold at most");
    assert.equal(call.rows.length, call.choiceCounts.length * call.width);
    assert.ok(call.experts.length >= call.choiceCounts.length);
  } else if (type === "result") {
    const result = decodeResult(frame);
    assert.ok(result.values.byteLength <= 2 * inputBytes, "bf16 values double at most");
  } else if (type !== "hello" && type !== "proof" && type !== "accept" && type !== "reject") {
    decodeControl(frame);
  }
}

export interface FuzzCounts {
  decoded: number;
  refused: number;
}

/** Feeds `count` damaged frames to decoders, in random chunks. Throws on anything unexpected. */
export function fuzzDecoders(
  options: { seed: number; count: number; corpus: readonly Bytes[] },
): FuzzCounts {
  const random = seededRandom(options.seed);
  const counts = { decoded: 0, refused: 0 };
  const newDecoder = () =>
    new FrameDecoder(FRAME_BYTES_MAX, {
      admit: (header) => assert.ok(HEADER_BYTES + header.bodyBytes <= FRAME_BYTES_MAX),
      frame: (frame) => {
        readBody(frame);
        counts.decoded++;
      },
    });
  let decoder = newDecoder();
  for (let i = 0; i < options.count; i++) {
    const bytes = damagedFrame(random, options.corpus);
    const at = below(random, bytes.length + 1);
    try {
      decoder.push(bytes.subarray(0, at));
      decoder.push(bytes.subarray(at));
      // A frame that claims to be longer swallows the next ones, as on a wire; not for ever.
      if (!decoder.idle && random() < 0.5) decoder = newDecoder();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw new Error(`frame ${i}`, { cause: error });
      counts.refused++;
      decoder = newDecoder();
    }
  }
  return counts;
}
