/** SHA-256 of files. */
import { createHash } from "node:crypto";
import type { ByteSource } from "./source.ts";

const HASH_PIECE_BYTES = 16 * 1024 * 1024;

/** SHA-256 of a whole file, in hexadecimal. */
export async function hashOf(
  source: ByteSource,
  onBytes?: (bytes: number) => void,
): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < source.sizeBytes; at += HASH_PIECE_BYTES) {
    const bytes = await source.read(at, Math.min(HASH_PIECE_BYTES, source.sizeBytes - at));
    hash.update(bytes);
    onBytes?.(bytes.byteLength);
  }
  return hash.digest("hex");
}
