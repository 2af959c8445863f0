/**
 * Little-endian fields of frame bodies off the hot path, one after the other. Reading checks every
 * bound and throws ProtocolError; writing trusts its caller.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import { createFrame, type FrameFields, type FrameType, type OutgoingFrame } from "./frame.ts";
import { ProtocolError } from "./protocol_error.ts";

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { fatal: true });

export class BodyWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** A non-negative safe integer, as u64. */
  integer(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, `${value} is no unsigned integer`);
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  f64(value: number): this {
    const at = this.#reserve(8);
    this.#view.setFloat64(at, value, true);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  /** UTF-8 with its length in front; cut at `clusterTextBytesMax`. */
  text(value: string): this {
    const out = new Uint8Array(limits.clusterTextBytesMax);
    const { written } = textEncoder.encodeInto(value, out);
    return this.u16(written).bytes(out.subarray(0, written));
  }

  /** UTF-8 of any length, with that in front. */
  longText(value: string): this {
    const bytes = textEncoder.encode(value);
    return this.u32(bytes.length).bytes(bytes);
  }

  frame(type: FrameType, fields: FrameFields = {}): OutgoingFrame {
    const frame = createFrame(type, this.#length, fields);
    frame.body.set(this.#bytes.subarray(0, this.#length));
    return frame;
  }

  /** Makes room; `#bytes` and `#view` may be other objects afterwards. */
  #reserve(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length));
      bytes.set(this.#bytes);
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    return at;
  }
}

export class BodyReader {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #at = 0;

  constructor(body: Uint8Array<ArrayBuffer>) {
    this.#bytes = body;
    this.#view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  integer(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > Number.MAX_SAFE_INTEGER) throw new ProtocolError("body", `integer ${value}`);
    return Number(value);
  }

  /** A finite number. */
  f64(): number {
    const value = this.#view.getFloat64(this.#take(8), true);
    if (!Number.isFinite(value)) throw new ProtocolError("body", `number ${value}`);
    return value;
  }

  /** A view of the next bytes. */
  bytes(count: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  text(): string {
    const length = this.u16();
    if (length > limits.clusterTextBytesMax) {
      throw new ProtocolError("size", `text of ${length} exceeds ${limits.clusterTextBytesMax}`);
    }
    return this.#decoded(length);
  }

  /** Text as `longText` wrote it: the frame bounds it. */
  longText(): string {
    return this.#decoded(this.u32());
  }

  #decoded(length: number): string {
    const bytes = this.bytes(length);
    try {
      return textDecoder.decode(bytes);
    } catch {
      throw new ProtocolError("body", "text is not UTF-8");
    }
  }

  /** The name at an index that the next byte gives. */
  name<T extends string>(names: readonly T[]): T {
    const index = this.u8();
    const name = names[index];
    if (name === undefined) throw new ProtocolError("body", `${index} is none of ${names}`);
    return name;
  }

  /** Bytes that are left to read. */
  get rest(): number {
    return this.#bytes.length - this.#at;
  }

  /** Throws ProtocolError unless all was read. */
  end(): void {
    if (this.rest > 0) throw new ProtocolError("body", `${this.rest} bytes too many`);
  }

  #take(count: number): number {
    if (count > this.rest) throw new ProtocolError("body", `it ends ${count - this.rest} early`);
    const at = this.#at;
    this.#at += count;
    return at;
  }
}
