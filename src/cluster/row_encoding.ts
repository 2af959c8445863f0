/**
 * How rows of float32 travel. One table; a row encoding is exact for a weight format when the
 * receiver's kernel computes the same bits from the decoded row as from the original one.
 *
 * `int8` is exact for quantised weights because their kernels read activations only through
 * int8 codes and one scale per group of 32 (`kernels/reference/quantize.ts`). It sends the codes
 * and each group's largest magnitude L, not the scale: decoding gives code * L / 127, and exactly
 * ±L for code ±127, so quantising the decoded row finds the same L, hence the same scale, and the
 * same codes (rounding errors of 4e-5 of a step cannot reach the next code). Receivers need no
 * other kernel. A row of 2048 is 2304 bytes; float32 8192, bfloat16 4096.
 */
import { bf16ToF32, f32ToBf16 } from "@/tensor/half.ts";
import type { MatrixFormat } from "@/kernels/backend.ts";
import { assert } from "@/assert.ts";

export type RowEncodingName = "f32" | "int8" | "bf16";

export interface RowEncoding {
  readonly name: RowEncodingName;
  /** Written in frame headers. */
  readonly code: number;
  /** Weight formats for which the receiver's results have the same bits as local ones. */
  readonly exactFor: readonly MatrixFormat[];
  /** Whether results may travel in it: a result is not read through a quantiser. */
  readonly forResults: boolean;
  /** Bytes of one row; a multiple of 4, so that every row is aligned for float32. */
  rowBytes(width: number): number;
  /** Writes `row` [width] to `out` [rowBytes], whose start is a multiple of 4 in its buffer. */
  encode(row: Float32Array, out: Uint8Array): void;
  /** The inverse. Never throws: any bytes mean some row. */
  decode(bytes: Uint8Array, row: Float32Array): void;
}

/** Part of the format: values that share a magnitude, as in the kernels (a test compares). */
const GROUP_WIDTH = 32;

/** Largest code of an activation. */
const CODE_MAX = 127;

/** 1.5 * 2^52: adding and subtracting it rounds a small double to an integer, ties to even. */
const ROUNDING_CONSTANT = 6755399441055744;

const f32: RowEncoding = {
  name: "f32",
  code: 1,
  exactFor: ["f32", "bf16", "f16", "q8", "q4"],
  forResults: true,
  rowBytes: (width) => width * 4,
  encode: (row, out) => new Float32Array(out.buffer, out.byteOffset, row.length).set(row),
  decode: (bytes, row) => row.set(new Float32Array(bytes.buffer, bytes.byteOffset, row.length)),
};

function paddedTo4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

/** Layout of a row: magnitudes f32 [groups], then codes i8 [width], padded to 4 bytes. */
const int8: RowEncoding = {
  name: "int8",
  code: 2,
  exactFor: ["q8", "q4"],
  forResults: false,
  rowBytes: (width) => Math.ceil(width / GROUP_WIDTH) * 4 + paddedTo4(width),
  encode(row, out) {
    const groups = Math.ceil(row.length / GROUP_WIDTH);
    const magnitudes = new Float32Array(out.buffer, out.byteOffset, groups);
    const codes = new Int8Array(out.buffer, out.byteOffset + groups * 4, row.length);
    for (let group = 0; group < groups; group++) {
      const from = group * GROUP_WIDTH;
      const to = Math.min(from + GROUP_WIDTH, row.length);
      let largest = 0;
      for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(row[i]!));
      const inverse = largest === 0 ? 0 : Math.fround(CODE_MAX / largest);
      for (let i = from; i < to; i++) {
        const scaled = Math.max(-CODE_MAX, Math.min(CODE_MAX, Math.fround(row[i]! * inverse)));
        codes[i] = (scaled + ROUNDING_CONSTANT) - ROUNDING_CONSTANT; // NaN becomes 0
      }
      magnitudes[group] = largest;
    }
  },
  decode(bytes, row) {
    const groups = Math.ceil(row.length / GROUP_WIDTH);
    const magnitudes = new Float32Array(bytes.buffer, bytes.byteOffset, groups);
    const codes = new Int8Array(bytes.buffer, bytes.byteOffset + groups * 4, row.length);
    for (let group = 0; group < groups; group++) {
      const from = group * GROUP_WIDTH;
      const to = Math.min(from + GROUP_WIDTH, row.length);
      const largest = magnitudes[group]!;
      const step = largest / CODE_MAX;
      // Infinity and NaN make all codes 0; only the magnitude carries them on.
      if (!Number.isFinite(largest)) row.fill(largest, from, to);
      else {
        for (let i = from; i < to; i++) {
          const code = codes[i]!;
          row[i] = code === CODE_MAX ? largest : code === -CODE_MAX ? -largest : code * step;
        }
      }
    }
  },
};

const bf16: RowEncoding = {
  name: "bf16",
  code: 3,
  exactFor: [],
  forResults: true,
  rowBytes: (width) => paddedTo4(width * 2),
  encode(row, out) {
    const bits = new Uint16Array(out.buffer, out.byteOffset, row.length);
    for (let i = 0; i < bits.length; i++) bits[i] = f32ToBf16(row[i]!);
  },
  decode(bytes, row) {
    const bits = new Uint16Array(bytes.buffer, bytes.byteOffset, row.length);
    for (let i = 0; i < bits.length; i++) row[i] = bf16ToF32(bits[i]!);
  },
};

export const rowEncodings: Readonly<Record<RowEncodingName, RowEncoding>> = { f32, int8, bf16 };

const byCode: ReadonlyMap<number, RowEncoding> = new Map(
  Object.values(rowEncodings).map((encoding) => [encoding.code, encoding]),
);

export function rowEncodingOfCode(code: number): RowEncoding | undefined {
  return byCode.get(code);
}

/** Encodes row `rowIndex[i]` of `source` [any, width] as row i of `out`, for all i. */
export function encodeRows(
  encoding: RowEncoding,
  rows: { source: Float32Array; rowIndex: ArrayLike<number>; width: number; out: Uint8Array },
): void {
  const { source, rowIndex, width, out } = rows;
  const rowBytes = encoding.rowBytes(width);
  assert(out.length === rowIndex.length * rowBytes, `${out.length} bytes for encoded rows`);
  for (let i = 0; i < rowIndex.length; i++) {
    const from = rowIndex[i]! * width;
    assert(from + width <= source.length, `row ${rowIndex[i]} of ${source.length / width}`);
    const target = out.subarray(i * rowBytes, (i + 1) * rowBytes);
    encoding.encode(source.subarray(from, from + width), target);
  }
}

/** Decodes rows of `width`. In float32 the result is a view of `bytes`, else a new array. */
export function decodeRows(
  encoding: RowEncoding,
  bytes: Uint8Array<ArrayBuffer>,
  shape: { rowCount: number; width: number },
): Float32Array<ArrayBuffer> {
  const { rowCount, width } = shape;
  const rowBytes = encoding.rowBytes(width);
  assert(bytes.length === rowCount * rowBytes, `${bytes.length} bytes of encoded rows`);
  if (encoding.name === "f32") {
    return new Float32Array(bytes.buffer, bytes.byteOffset, rowCount * width);
  }
  const rows = new Float32Array(rowCount * width);
  for (let i = 0; i < rowCount; i++) {
    const source = bytes.subarray(i * rowBytes, (i + 1) * rowBytes);
    encoding.decode(source, rows.subarray(i * width, (i + 1) * width));
  }
  return rows;
}

/** Rows of one step, each encoded once to however many nodes it goes. */
export class EncodedRows {
  readonly #encoding: RowEncoding;
  readonly #source: Float32Array;
  readonly #width: number;
  readonly #rowBytes: number;
  readonly #bytes: Uint8Array;
  readonly #isEncoded: Uint8Array;

  /** `source`: [any, width]. */
  constructor(encoding: RowEncodingName, rows: { source: Float32Array; width: number }) {
    const { source, width } = rows;
    this.#encoding = rowEncodings[encoding];
    this.#source = source;
    this.#width = width;
    this.#rowBytes = this.#encoding.rowBytes(width);
    const count = source.length / width;
    this.#bytes = new Uint8Array(encoding === "f32" ? 0 : count * this.#rowBytes);
    this.#isEncoded = new Uint8Array(count);
  }

  /** As `encodeRows`. */
  write(rowIndex: ArrayLike<number>, out: Uint8Array): void {
    const [source, width, rowBytes] = [this.#source, this.#width, this.#rowBytes];
    if (this.#bytes.length === 0) {
      return encodeRows(this.#encoding, { source, rowIndex, width, out });
    }
    assert(out.length === rowIndex.length * rowBytes, `${out.length} bytes for encoded rows`);
    for (let i = 0; i < rowIndex.length; i++) {
      const row = rowIndex[i]!;
      const bytes = this.#bytes.subarray(row * rowBytes, (row + 1) * rowBytes);
      assert(bytes.length === rowBytes, `row ${row} of ${this.#isEncoded.length}`);
      if (this.#isEncoded[row] === 0) {
        this.#encoding.encode(source.subarray(row * width, (row + 1) * width), bytes);
        this.#isEncoded[row] = 1;
      }
      out.set(bytes, i * rowBytes);
    }
  }
}
