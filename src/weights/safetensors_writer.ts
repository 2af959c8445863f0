/** Writing small safetensors files in memory: tests, exports, quantised folders. */
import type { FileDType } from "@/tensor/dtype.ts";

export interface TensorToWrite {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** One container with all tensors, header padded to 8 bytes with spaces as the format asks. */
export function encodeSafetensors(tensors: readonly TensorToWrite[]): Uint8Array {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.byteLength] };
    offset += bytes.byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(text.byteLength / 8) * 8;
  const out = new Uint8Array(8 + headerBytes + offset);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes), true);
  out.fill(32, 8, 8 + headerBytes);
  out.set(text, 8);
  let at = 8 + headerBytes;
  for (const { bytes } of tensors) {
    out.set(bytes, at);
    at += bytes.byteLength;
  }
  return out;
}
