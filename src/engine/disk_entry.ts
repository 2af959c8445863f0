/**
 * The bytes of one file of the disk cache: checksum, header, value. The checksum covers all that
 * follows, the header names the key, so that a torn, changed or misplaced file shows.
 */

/** [checksum 32][magic 8][key 32][value length, little-endian u64][value] */
const [CHECKSUM_BYTES, MAGIC_BYTES, KEY_BYTES] = [32, 8, 32];
const KEY_START = CHECKSUM_BYTES + MAGIC_BYTES;
const LENGTH_START = KEY_START + KEY_BYTES;
export const ENTRY_HEADER_BYTES = LENGTH_START + 8;
const MAGIC = new TextEncoder().encode("flotilla");

/** The file of a value; `key` is 64 hexadecimal digits. Hashing happens off the main thread. */
export async function encodeEntry(key: string, value: Uint8Array): Promise<Uint8Array> {
  const entry = new Uint8Array(ENTRY_HEADER_BYTES + value.length);
  entry.set(MAGIC, CHECKSUM_BYTES);
  entry.set(Uint8Array.fromHex(key), KEY_START);
  new DataView(entry.buffer).setBigUint64(LENGTH_START, BigInt(value.length), true);
  entry.set(value, ENTRY_HEADER_BYTES);
  entry.set(await checksum(entry));
  return entry;
}

/** The value of a file, or undefined when it is not, whole and unchanged, the one of `key`. */
export async function decodeEntry(
  key: string,
  entry: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array | undefined> {
  if (entry.length < ENTRY_HEADER_BYTES) return undefined;
  const view = new DataView(entry.buffer, entry.byteOffset);
  const length = view.getBigUint64(LENGTH_START, true);
  if (length !== BigInt(entry.length - ENTRY_HEADER_BYTES)) return undefined;
  if (!equal(entry.subarray(CHECKSUM_BYTES, KEY_START), MAGIC)) return undefined;
  if (entry.subarray(KEY_START, LENGTH_START).toHex() !== key) return undefined;
  if (!equal(entry.subarray(0, CHECKSUM_BYTES), await checksum(entry))) return undefined;
  return entry.subarray(ENTRY_HEADER_BYTES);
}

async function checksum(entry: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", entry.subarray(CHECKSUM_BYTES)));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
