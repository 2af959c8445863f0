/** Reads the golden pictures of `tests/fixtures/model`. For tests of this folder only. */
const root = new URL("../../tests/fixtures/model/", import.meta.url);

/** Bytes of one u8 tensor `[height, width, 3]`. */
export interface GoldenPixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Reads a file under the fixtures folder. */
export function readGoldenFile(path: string): Uint8Array {
  return Deno.readFileSync(new URL(path, root));
}

/** Reads a safetensors file of `[height, width, 3]` u8 tensors. */
export function readGoldenPixels(path: string): Map<string, GoldenPixels> {
  const bytes = readGoldenFile(path);
  const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
  const pixels = new Map<string, GoldenPixels>();
  for (const [name, tensor] of Object.entries<Record<string, number[]>>(header)) {
    if (name === "__metadata__") continue;
    const [height, width] = tensor["shape"] as [number, number];
    const [start, end] = tensor["data_offsets"] as [number, number];
    const data = bytes.slice(8 + headerLength + start, 8 + headerLength + end);
    pixels.set(name, { width, height, data });
  }
  return pixels;
}
