/**
 * Server-sent events as the fetch API delivers them: bytes in, events out. Knows the framing of the
 * HTML standard (section 9.2.6) and nothing about chat.
 */
import { chunksOf } from "./byte_chunks.ts";

export interface ServerEvent {
  /** Value of the `event:` field; "message" when there is none. */
  readonly event: string;
  readonly data: string;
}

/** One event may not grow past this many UTF-16 units; a server that sends more is broken. */
const eventCharsMax = 8 * 1024 * 1024;

/**
 * Yields the events of a response body. Comments (pings) are dropped, and so is an event that the
 * stream cut off before its empty line. Throws RangeError when an event exceeds the bound.
 */
export async function* serverEvents(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<ServerEvent> {
  let event = "";
  let data: string[] = [];
  let size = 0;
  for await (const line of lines(body)) {
    if (line === "") {
      if (data.length > 0) yield { event: event || "message", data: data.join("\n") };
      event = "";
      data = [];
      size = 0;
      continue;
    }
    size += line.length;
    if (size > eventCharsMax) throw new RangeError(`Event exceeds ${eventCharsMax} characters`);
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    else if (name === "event") event = value;
  }
}

/** Lines ending in LF, CR LF or CR, wherever the network cut the bytes. */
async function* lines(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of chunksOf(body.pipeThrough(new TextDecoderStream()))) {
    rest += text;
    if (rest.length > eventCharsMax) {
      throw new RangeError(`Event exceeds ${eventCharsMax} characters`);
    }
    // A CR at the very end may be the first half of CR LF: it waits for the next bytes.
    const held = rest.endsWith("\r") ? 1 : 0;
    const parts = rest.slice(0, rest.length - held).split(/\r\n|\n|\r/);
    rest = parts.pop()! + rest.slice(rest.length - held);
    yield* parts;
  }
  if (rest.endsWith("\r")) yield rest.slice(0, -1);
}
