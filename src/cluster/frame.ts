/**
 * The frame: a fixed header of 48 bytes, a body, and 16 bytes of authentication code on keyed
 * connections. This file owns the header's layout, the frame types and the checksum; what bodies
 * mean is in `call_frames.ts` and `control_frames.ts`. Everything is little endian.
 *
 * offset size field
 *      0    4 magic "FLO1"
 *      4    1 version of the format
 *      5    1 frame type
 *      6    1 flags
 *      7    1 row encoding of the body (`row_encoding.ts`), else 0
 *      8    8 epoch of the placement that the sender used
 *     16    4 call id, chosen by the caller, unique on its connection
 *     20    4 engine step, for traces
 *     24    4 layer
 *     28    4 rows
 *     32    4 pairs of (row, expert)
 *     36    4 row width
 *     40    4 body length in bytes, without the authentication code
 *     44    4 CRC-32 (IEEE 802.3) of bytes 0-43 and the body
 *
 * CRC-32 rather than CRC-32C: the runtime has the former in native code (43 GB/s measured; a table
 * driven CRC-32C in JavaScript reached 1.3 GB/s, 48 µs for each 64 KiB reply, twice per call).
 */
import { crc32 } from "node:zlib";
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { ProtocolError } from "./protocol_error.ts";

export const FRAME_MAGIC = 0x314f4c46; // "FLO1" in little endian
export const FRAME_VERSION = 1;
export const HEADER_BYTES = 48;
/** Room that every outgoing frame keeps behind its body for the authentication code. */
export const SEAL_BYTES = 16;
const CHECKSUM_OFFSET = 44;

/** Flag: an authentication code follows the body. */
export const FLAG_SEALED = 1;
/** Flag of calls and results: one weighted sum per row instead of one row per (row, expert). */
export const FLAG_SUMS = 2;
const FLAGS_KNOWN = FLAG_SEALED | FLAG_SUMS;

/** When a type may appear, and whether it counts against the receiver's window. */
interface FrameRule {
  readonly code: number;
  readonly phase: "handshake" | "open";
  /** Counts against the window; otherwise at most `clusterControlBytesMax` long. */
  readonly windowed: boolean;
}

export const frameRules = {
  hello: { code: 1, phase: "handshake", windowed: false },
  proof: { code: 2, phase: "handshake", windowed: false },
  accept: { code: 3, phase: "handshake", windowed: false },
  reject: { code: 4, phase: "handshake", windowed: false },
  call: { code: 16, phase: "open", windowed: true },
  result: { code: 17, phase: "open", windowed: true },
  refusal: { code: 18, phase: "open", windowed: false },
  cancel: { code: 19, phase: "open", windowed: false },
  ping: { code: 32, phase: "open", windowed: false },
  pong: { code: 33, phase: "open", windowed: false },
  credit: { code: 34, phase: "open", windowed: false },
  assign: { code: 48, phase: "open", windowed: true },
  report: { code: 49, phase: "open", windowed: true },
  member: { code: 50, phase: "open", windowed: true },
  drain: { code: 51, phase: "open", windowed: false },
} as const satisfies Record<string, FrameRule>;

export type FrameType = keyof typeof frameRules;

const typeOfCode: ReadonlyMap<number, FrameType> = new Map(
  Object.entries(frameRules).map(([type, rule]) => [rule.code, type as FrameType]),
);

export interface FrameHeader {
  readonly type: FrameType;
  readonly flags: number;
  readonly encoding: number;
  readonly epoch: number;
  readonly callId: number;
  readonly step: number;
  readonly layer: number;
  readonly rows: number;
  readonly pairs: number;
  readonly width: number;
  readonly bodyBytes: number;
}

/** The fields that a sender chooses; all others are 0 or computed. */
export type FrameFields = Partial<Omit<FrameHeader, "type" | "bodyBytes">>;

/** A frame on its way out: header and body, with spare room for the authentication code behind. */
export interface OutgoingFrame {
  readonly type: FrameType;
  /** Header and body. The buffer goes on for `SEAL_BYTES` behind it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** A frame that arrived whole and passed its checks. */
export interface Frame {
  readonly header: FrameHeader;
  /** Starts at a multiple of 16 in its buffer, which nobody else uses. */
  readonly body: Uint8Array<ArrayBuffer>;
}

assert(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, "frames need a little-endian host");

/** A frame with a zeroed body of `bodyBytes` to be filled in place. */
export function createFrame(
  type: FrameType,
  bodyBytes: number,
  fields: FrameFields = {},
): OutgoingFrame {
  const length = HEADER_BYTES + bodyBytes;
  const bytes = new Uint8Array(new ArrayBuffer(length + SEAL_BYTES), 0, length);
  const view = new DataView(bytes.buffer);
  const epoch = fields.epoch ?? 0;
  assert(Number.isSafeInteger(epoch) && epoch >= 0, `epoch ${epoch}`);
  view.setUint32(0, FRAME_MAGIC, true);
  view.setUint8(4, FRAME_VERSION);
  view.setUint8(5, frameRules[type].code);
  view.setUint8(6, fields.flags ?? 0);
  view.setUint8(7, fields.encoding ?? 0);
  view.setUint32(8, epoch % 2 ** 32, true);
  view.setUint32(12, Math.floor(epoch / 2 ** 32), true);
  view.setUint32(16, fields.callId ?? 0, true);
  view.setUint32(20, fields.step ?? 0, true);
  view.setUint32(24, fields.layer ?? 0, true);
  view.setUint32(28, fields.rows ?? 0, true);
  view.setUint32(32, fields.pairs ?? 0, true);
  view.setUint32(36, fields.width ?? 0, true);
  view.setUint32(40, bodyBytes, true);
  return { type, bytes, body: bytes.subarray(HEADER_BYTES) };
}

/** Checksum of a frame's bytes (without authentication code). */
function checksum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(HEADER_BYTES), crc32(bytes.subarray(0, CHECKSUM_OFFSET)));
}

/** Writes the checksum, as the last step before sending. */
export function writeChecksum(frame: OutgoingFrame): void {
  const { bytes } = frame;
  new DataView(bytes.buffer).setUint32(CHECKSUM_OFFSET, checksum(bytes), true);
}

/** Marks a frame as sealed; its authentication code then covers this flag too. */
export function setSealedFlag(frame: OutgoingFrame): void {
  frame.bytes[6]! |= FLAG_SEALED;
}

/** Throws ProtocolError unless the checksum in the header is that of the frame. */
export function verifyChecksum(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [stated, actual] = [view.getUint32(CHECKSUM_OFFSET, true), checksum(bytes)];
  if (stated === actual) return;
  throw new ProtocolError("checksum", `checksum ${stated} is not ${actual}`);
}

/**
 * Reads the header at the start of `bytes`. Throws ProtocolError when it is not one, when the type
 * is unknown or when the body is longer than its kind may be.
 */
export function readHeader(bytes: Uint8Array, frameBytesMax: number): FrameHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const magic = view.getUint32(0, true);
  if (magic !== FRAME_MAGIC) throw new ProtocolError("magic", `it starts with ${magic}`);
  const version = view.getUint8(4);
  if (version !== FRAME_VERSION) {
    throw new ProtocolError("version", `format ${version} is not ${FRAME_VERSION}`);
  }
  const code = view.getUint8(5);
  const type = typeOfCode.get(code);
  if (type === undefined) throw new ProtocolError("type", `unknown frame type ${code}`);
  const flags = view.getUint8(6);
  if ((flags & ~FLAGS_KNOWN) !== 0) throw new ProtocolError("flags", `unknown flags ${flags}`);
  const epoch = view.getUint32(8, true) + 2 ** 32 * view.getUint32(12, true);
  if (epoch > Number.MAX_SAFE_INTEGER) throw new ProtocolError("body", `epoch ${epoch}`);
  const header = {
    type,
    flags,
    encoding: view.getUint8(7),
    epoch,
    callId: view.getUint32(16, true),
    step: view.getUint32(20, true),
    layer: view.getUint32(24, true),
    rows: view.getUint32(28, true),
    pairs: view.getUint32(32, true),
    width: view.getUint32(36, true),
    bodyBytes: view.getUint32(40, true),
  };
  checkSizes(header, frameBytesMax);
  return header;
}

function checkSizes(header: FrameHeader, frameBytesMax: number): void {
  const { type, bodyBytes, rows, pairs } = header;
  const frameBytes = HEADER_BYTES + bodyBytes;
  const bytesMax = frameRules[type].windowed
    ? frameBytesMax
    : Math.min(frameBytesMax, limits.clusterControlBytesMax);
  const check = (count: number, max: number, name: string) => {
    if (count <= max) return;
    throw new ProtocolError("size", `${count} ${name} of a ${type} frame exceed ${max}`);
  };
  check(frameBytes, bytesMax, "bytes");
  check(rows, limits.clusterCallRowsMax, "rows");
  check(pairs, limits.clusterCallPairsMax, "pairs");
}
