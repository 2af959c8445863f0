/** Owns the decoding of `data:` URLs (RFC 2397). The MIME type is ignored: bytes say what they are. */
import { OperatingError } from "@/errors.ts";

/** Longest part before the comma: a MIME type with parameters. */
const HEADER_CHARS_MAX = 1024;

/** True for a URL of scheme `data`, in any case. */
export function isDataUrl(url: string): boolean {
  return url.slice(0, 5).toLowerCase() === "data:";
}

/**
 * Bytes of a base64 (standard or URL-safe alphabet) or percent-encoded data URL. Throws
 * `OperatingError` `invalid_media` when it is malformed or empty, `payload_too_large` when it holds
 * more than `bytesMax` bytes.
 */
export function decodeDataUrl(url: string, bytesMax: number): Uint8Array {
  const comma = url.slice(0, HEADER_CHARS_MAX).indexOf(",");
  if (comma < 0) throw invalid("it has no comma after its type");
  const parameters = url.slice(5, comma).split(";");
  const isBase64 = parameters.length > 1 && parameters.at(-1)!.trim().toLowerCase() === "base64";
  const payload = url.slice(comma + 1);
  // Three characters per byte at worst, for percent-encoding; four per three bytes for base64.
  if (isBase64 && !payload.includes("%") && payload.length * 0.75 > bytesMax + 2) {
    throw tooLarge(Math.floor(payload.length * 0.75), bytesMax);
  }
  const bytes = isBase64 ? decodeBase64(payload) : decodePercent(payload);
  if (bytes.length === 0) throw invalid("it is empty");
  if (bytes.length > bytesMax) throw tooLarge(bytes.length, bytesMax);
  return bytes;
}

function decodeBase64(payload: string): Uint8Array {
  const text = payload.includes("%") ? new TextDecoder().decode(decodePercent(payload)) : payload;
  const alphabet = text.includes("-") || text.includes("_") ? "base64url" : "base64";
  try {
    return Uint8Array.fromBase64(text, { alphabet });
  } catch (error) {
    throw invalid("its base64 is malformed", error);
  }
}

/** Bytes of `%41` style text; other characters stand for their UTF-8 bytes. */
function decodePercent(payload: string): Uint8Array {
  const source = new TextEncoder().encode(payload);
  const bytes = new Uint8Array(source.length);
  let length = 0;
  for (let index = 0; index < source.length; index++) {
    let byte = source[index]!;
    if (byte === 0x25) {
      const high = hexDigit(source[index + 1]);
      const low = hexDigit(source[index + 2]);
      if (high < 0 || low < 0) throw invalid(`its percent-encoding is malformed at ${index}`);
      byte = high * 16 + low;
      index += 2;
    }
    bytes[length++] = byte;
  }
  return bytes.slice(0, length);
}

/** Value of an ASCII hex digit, else -1. */
function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

function invalid(reason: string, cause?: unknown): OperatingError {
  return new OperatingError("invalid_media", `Cannot read data URL: ${reason}`, { cause });
}

function tooLarge(length: number, bytesMax: number): OperatingError {
  const message = `Cannot read data URL: ${length} bytes exceed ${bytesMax}`;
  return new OperatingError("payload_too_large", message);
}
