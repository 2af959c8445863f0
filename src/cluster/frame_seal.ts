/**
 * Authentication codes of frames on keyed connections: HMAC-SHA256, cut to 16 bytes, over the frame
 * and a counter. The counter never travels, so a frame that is forged, changed, repeated, left out
 * or moved fails. Contents are not hidden: that is what TLS is for.
 */
import { createHash, type Hash, timingSafeEqual } from "node:crypto";
import { assert } from "@/assert.ts";
import { type OutgoingFrame, SEAL_BYTES } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

const KEY_BYTES = 32;
const COUNTER_BYTES = 8;
/** Block size of SHA-256. */
const PAD_BYTES = 64;

/** One direction of one connection. */
export class FrameSeal {
  /** States of HMAC's two hashes after the padded key: half the time of starting from the key. */
  readonly #inner: Hash;
  readonly #outer: Hash;
  #count = 0n;

  constructor(key: Uint8Array) {
    assert(key.length === KEY_BYTES, `a frame key of ${key.length} bytes`);
    this.#inner = paddedKeyHash(key, 0x36);
    this.#outer = paddedKeyHash(key, 0x5c);
  }

  /** Writes the code behind the body and returns all bytes to be sent. */
  seal(frame: OutgoingFrame): Uint8Array<ArrayBuffer> {
    const { bytes } = frame;
    const sealed = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length + SEAL_BYTES);
    sealed.set(this.#nextCode(bytes), bytes.length);
    return sealed;
  }

  /**
   * Throws ProtocolError unless the bytes behind `bytes` in its buffer are the code of the next
   * frame. They are overwritten.
   */
  verify(bytes: Uint8Array<ArrayBuffer>): void {
    const end = bytes.byteOffset + bytes.length;
    const received = new Uint8Array(bytes.buffer.slice(end, end + SEAL_BYTES));
    const code = received.length === SEAL_BYTES ? this.#nextCode(bytes) : undefined;
    if (code !== undefined && timingSafeEqual(code, received)) return;
    throw new ProtocolError("seal", `frame ${this.#count} has a wrong authentication code`);
  }

  /** The code over `bytes` and the counter, which is put behind them for the time being. */
  #nextCode(bytes: Uint8Array<ArrayBuffer>): Uint8Array {
    const { buffer, byteOffset, length } = bytes;
    new DataView(buffer).setBigUint64(byteOffset + length, this.#count++, true);
    const covered = new Uint8Array(buffer, byteOffset, length + COUNTER_BYTES);
    const inner = this.#inner.copy().update(covered).digest();
    return this.#outer.copy().update(inner).digest().subarray(0, SEAL_BYTES);
  }
}

function paddedKeyHash(key: Uint8Array, pad: number): Hash {
  const padded = new Uint8Array(PAD_BYTES).fill(pad);
  key.forEach((byte, i) => padded[i] = byte ^ pad);
  return createHash("sha256").update(padded);
}
