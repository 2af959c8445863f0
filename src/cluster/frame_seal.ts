/**
 * Authentication codes of frames on keyed connections: HMAC-SHA256, cut to 16 bytes, over a counter
 * and the frame. The counter never travels, so a frame that is forged, changed, repeated, left out
 * or moved fails. Contents are not hidden: that is what TLS is for.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type OutgoingFrame, SEAL_BYTES } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

/** One direction of one connection. */
export class FrameSeal {
  readonly #key: Uint8Array;
  #count = 0n;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Writes the code behind the body and returns all bytes to be sent. */
  seal(frame: OutgoingFrame): Uint8Array<ArrayBuffer> {
    const { bytes } = frame;
    const sealed = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length + SEAL_BYTES);
    sealed.set(this.#nextCode(bytes), bytes.length);
    return sealed;
  }

  /** Throws ProtocolError unless `seal` is the code of the next frame. */
  verify(bytes: Uint8Array, seal: Uint8Array): void {
    const code = this.#nextCode(bytes);
    if (seal.length === SEAL_BYTES && timingSafeEqual(code, seal)) return;
    throw new ProtocolError("seal", `frame ${this.#count - 1n} has a wrong authentication code`);
  }

  #nextCode(bytes: Uint8Array): Uint8Array {
    const counter = new Uint8Array(8);
    new DataView(counter.buffer).setBigUint64(0, this.#count++, true);
    const digest = createHmac("sha256", this.#key).update(counter).update(bytes).digest();
    return digest.subarray(0, SEAL_BYTES);
  }
}
