/** Writing safetensors: the header alone for streamed files, or a small file as one piece. */
import { elementCount, type FileDType, fileDTypeBytes } from "@/tensor/dtype.ts";

export interface TensorHeader {
  readonly name: string;
  readonly dtype: FileDType;
  readonly shape: readonly number[];
}

export interface TensorToWrite extends TensorHeader {
  readonly bytes: Uint8Array;
}

/**
 * Length prefix and header of a file whose tensors follow in this order without gaps, padded to 8
 * bytes with spaces as the format asks.
 */
export function encodeSafetensorsHeader(
  tensors: readonly TensorHeader[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = offset + elementCount(shape) * fileDTypeBytes[dtype];
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(text.byteLength / 8) * 8;
  const out = new Uint8Array(8 + headerBytes).fill(32);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerBytes), true);
  out.set(text, 8);
  return out;
}

/** What Hugging Face's loaders want to read in a file of weights: PyTorch's order of dimensions. */
export const WEIGHTS_METADATA = { format: "pt" } as const;

/** One container with all tensors. */
export function encodeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  const header = encodeSafetensorsHeader(tensors, metadata);
  const dataBytes = tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const out = new Uint8Array(header.byteLength + dataBytes);
  out.set(header);
  let at = header.byteLength;
  for (const { bytes } of tensors) {
    out.set(bytes, at);
    at += bytes.byteLength;
  }
  return out;
}
