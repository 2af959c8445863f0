/**
 * Cuts a byte stream into frames, whatever its chunks. It owns sizes and checksums; who may send
 * what, and whether authentication codes are right, is the connection's business.
 */
import {
  FLAG_SEALED,
  type Frame,
  type FrameHeader,
  HEADER_BYTES,
  readHeader,
  SEAL_BYTES,
  verifyChecksum,
} from "./frame.ts";

/** A frame and its bytes as they arrived, for the check of the authentication code. */
export interface DecodedFrame extends Frame {
  /** Header and body; behind them in the buffer is the authentication code of a sealed frame. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export interface FrameDecoderSink {
  /** A header arrived: throws ProtocolError to refuse the frame before its body is allocated. */
  admit(header: FrameHeader): void;
  frame(frame: DecodedFrame): void;
}

export class FrameDecoder {
  readonly #sink: FrameDecoderSink;
  readonly #headerBytes = new Uint8Array(HEADER_BYTES);
  #header: FrameHeader | undefined;
  /** Header, body and code of the frame that is arriving. */
  #whole: Uint8Array<ArrayBuffer> | undefined;
  /** Bytes of the current header or frame that have arrived. */
  #filled = 0;
  /** Largest accepted frame: small during the handshake, then as agreed. */
  frameBytesMax: number;

  constructor(frameBytesMax: number, sink: FrameDecoderSink) {
    this.frameBytesMax = frameBytesMax;
    this.#sink = sink;
  }

  /** True between two frames: the stream may end here. */
  get idle(): boolean {
    return this.#filled === 0;
  }

  /**
   * Takes the next bytes and hands every completed frame to the sink; each body byte is copied
   * once. Throws ProtocolError; the decoder must not be used afterwards.
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      at += this.#whole === undefined
        ? this.#takeHeader(chunk.subarray(at))
        : this.#takeBody(chunk.subarray(at), this.#whole);
    }
  }

  #takeHeader(rest: Uint8Array): number {
    if (this.#filled === 0 && rest.length >= HEADER_BYTES) {
      this.#begin(rest);
      return HEADER_BYTES;
    }
    const taken = Math.min(rest.length, HEADER_BYTES - this.#filled);
    this.#headerBytes.set(rest.subarray(0, taken), this.#filled);
    this.#filled += taken;
    if (this.#filled < HEADER_BYTES) return taken;
    this.#begin(this.#headerBytes);
    return taken;
  }

  /** A header is complete: it stands at the start of `bytes`. */
  #begin(bytes: Uint8Array): void {
    const header = readHeader(bytes, this.frameBytesMax);
    this.#sink.admit(header);
    const sealBytes = header.flags & FLAG_SEALED ? SEAL_BYTES : 0;
    this.#header = header;
    this.#whole = new Uint8Array(HEADER_BYTES + header.bodyBytes + sealBytes);
    this.#whole.set(bytes.length === HEADER_BYTES ? bytes : bytes.subarray(0, HEADER_BYTES));
    this.#filled = HEADER_BYTES;
    if (this.#whole.length === HEADER_BYTES) this.#finish(header, this.#whole);
  }

  #takeBody(rest: Uint8Array, whole: Uint8Array<ArrayBuffer>): number {
    const taken = Math.min(rest.length, whole.length - this.#filled);
    whole.set(rest.subarray(0, taken), this.#filled);
    this.#filled += taken;
    if (this.#filled === whole.length) this.#finish(this.#header!, whole);
    return taken;
  }

  #finish(header: FrameHeader, whole: Uint8Array<ArrayBuffer>): void {
    this.#header = undefined;
    this.#whole = undefined;
    this.#filled = 0;
    const end = HEADER_BYTES + header.bodyBytes;
    const bytes = whole.subarray(0, end);
    verifyChecksum(bytes);
    this.#sink.frame({ header, bytes, body: whole.subarray(HEADER_BYTES, end) });
  }
}
