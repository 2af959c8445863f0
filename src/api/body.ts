/**
 * Request bodies: read with a size bound, checked for depth and number of values before they are
 * parsed. What the values mean is `schema.ts`.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { BodyShare } from "./body_budget.ts";

export interface BodyLimits {
  readonly sizeBytesMax: number;
  readonly depthMax: number;
  readonly valuesMax: number;
}

const DEFAULT_LIMITS: BodyLimits = {
  sizeBytesMax: limits.bodyBytesMax,
  depthMax: limits.jsonDepthMax,
  valuesMax: limits.jsonValuesMax,
};

/**
 * The JSON value of a body. Throws OperatingError `unsupported_media_type`, `payload_too_large`
 * (by its declared length before anything is read, else as soon as it grows too long),
 * `overloaded` (when `share` cannot hold it) or `invalid_request`.
 */
export async function readJson(
  request: Request,
  { bounds = DEFAULT_LIMITS, share }: { bounds?: BodyLimits; share?: BodyShare } = {},
): Promise<unknown> {
  checkHeaders(request, bounds);
  share?.hold(Number(request.headers.get("content-length") ?? 0));
  const bytes = await readBytes(request, { sizeBytesMax: bounds.sizeBytesMax, share });
  if (bytes.length === 0) throw invalidJson("it is empty");
  checkStructure(bytes, bounds);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalidJson("it is not UTF-8", cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalidJson(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function checkHeaders(request: Request, { sizeBytesMax }: BodyLimits): void {
  const type = request.headers.get("content-type");
  const essence = type?.split(";")[0]?.trim().toLowerCase();
  if (essence !== undefined && !/^application\/([\w.+-]+\+)?json$/.test(essence)) {
    throw new OperatingError(
      "unsupported_media_type",
      `Cannot read body: its type is ${essence}, expected application/json`,
    );
  }
  const encoding = request.headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new OperatingError(
      "unsupported_media_type",
      `Cannot read body: its content encoding is ${encoding}, expected none`,
    );
  }
  const length = Number(request.headers.get("content-length") ?? 0);
  if (length > sizeBytesMax) throw tooLarge(`${length} bytes exceed`, sizeBytesMax);
}

async function readBytes(
  request: Request,
  { sizeBytesMax, share }: { sizeBytesMax: number; share: BodyShare | undefined },
): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Leaving the loop cancels the body, so that the rest is never received.
  for await (const chunk of request.body) {
    size += chunk.length;
    if (size > sizeBytesMax) throw tooLarge("it grew past", sizeBytesMax);
    share?.hold(size);
    chunks.push(chunk);
  }
  if (chunks.length === 1) return chunks[0]!;
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const [OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * Bounds what parsing would allocate: nesting, and values by counting commas and brackets. Strings
 * are skipped with a native search, so a large picture costs little.
 */
function checkStructure(bytes: Uint8Array, { depthMax, valuesMax }: BodyLimits): void {
  let depth = 0;
  let values = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) {
      i = stringEnd(bytes, i + 1);
    } else if (byte === COMMA || byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      values += 1;
      if (byte !== COMMA) depth += 1;
      if (depth > depthMax) throw invalidJson(`it nests deeper than ${depthMax} levels`);
      if (values > valuesMax) throw tooLarge("its values exceed", valuesMax, "");
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      depth -= 1;
    }
  }
}

/** Index of the quote that closes the string whose text starts at `start`, or the last index. */
function stringEnd(bytes: Uint8Array, start: number): number {
  for (let quote = bytes.indexOf(QUOTE, start); quote >= 0;) {
    let slashes = 0;
    while (bytes[quote - 1 - slashes] === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return quote;
    quote = bytes.indexOf(QUOTE, quote + 1);
  }
  return bytes.length;
}

function invalidJson(problem: string, cause?: unknown): OperatingError {
  return new OperatingError("invalid_request", `Cannot parse body as JSON: ${problem}`, { cause });
}

function tooLarge(what: string, max: number, unit = " bytes"): OperatingError {
  return new OperatingError("payload_too_large", `Cannot accept body: ${what} ${max}${unit}`);
}
