/**
 * The byte-level alphabet of GPT-2 style vocabularies: every byte has one printable character, so
 * vocabulary files can spell any byte string. Knows nothing of ids or merges.
 */

/** Spelling of each byte: printable Latin-1 stays itself, the other 68 become U+0100…U+0143. */
export const BYTE_SPELLINGS: readonly string[] = buildSpellings();

const BYTE_OF_SPELLING: ReadonlyMap<string, number> = new Map(
  BYTE_SPELLINGS.map((spelling, byte) => [spelling, byte]),
);

function buildSpellings(): string[] {
  let unprintableCount = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : 0x100 + unprintableCount++);
  });
}

/** Spells bytes in the byte-level alphabet, one character per byte. */
export function spellBytes(bytes: Uint8Array): string {
  let spelling = "";
  for (const byte of bytes) spelling += BYTE_SPELLINGS[byte]!;
  return spelling;
}

/**
 * Bytes of a vocabulary entry. An entry with a character outside the alphabet stands for its own
 * UTF-8 bytes, as in the ByteLevel decoder of Hugging Face tokenizers.
 */
export function bytesOfSpelling(spelling: string): Uint8Array {
  const bytes = new Uint8Array(spelling.length);
  for (let i = 0; i < spelling.length; i++) {
    const byte = BYTE_OF_SPELLING.get(spelling[i]!);
    if (byte === undefined) return new TextEncoder().encode(spelling);
    bytes[i] = byte;
  }
  return bytes;
}
