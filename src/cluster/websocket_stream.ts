/**
 * Streams over WebSocket, for hosts that cannot open or accept TCP. Message boundaries mean
 * nothing: the bytes of all messages in a row are the stream.
 *
 * The runtime's client keeps Nagle's algorithm on and writes the header of a message over 1 KiB on
 * its own, so the rest of such a message waits 44 ms for a delayed ACK unless it is at least 64 KiB
 * long. The dialing side therefore sends what lies between in one of two ways:
 * - Up to 16 KiB in messages of 1 KiB. The second would wait just the same, so the accepting side
 *   answers each with an empty message, whose packet carries the ACK.
 * - Longer writes in one message of exactly 64 KiB; its last four bytes say how many count.
 * The accepting side itself has no such delay and sends whole frames.
 */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { ByteStream, ByteStreamSink, StreamListener } from "./byte_stream.ts";

const SUBPROTOCOL = "flotilla-cluster-1";
const SMALL_MESSAGE_BYTES = 1024;
const PIECES_BYTES_MAX = 16 * 1024;
const PADDED_MESSAGE_BYTES = 64 * 1024;
const PADDED_DATA_BYTES_MAX = PADDED_MESSAGE_BYTES - 4;

/** The messages that carry one write of the dialing side. */
export function* messagesOf(
  bytes: Uint8Array<ArrayBuffer>,
): Generator<Uint8Array<ArrayBuffer>> {
  if (bytes.length > PADDED_MESSAGE_BYTES) return yield bytes;
  if (bytes.length <= PIECES_BYTES_MAX) {
    for (let at = 0; at < bytes.length; at += SMALL_MESSAGE_BYTES) {
      yield bytes.subarray(at, at + SMALL_MESSAGE_BYTES);
    }
    return;
  }
  // Almost always one; writes of nearly the padded size need a second.
  for (let at = 0; at < bytes.length; at += PADDED_DATA_BYTES_MAX) {
    const data = bytes.subarray(at, at + PADDED_DATA_BYTES_MAX);
    const message = new Uint8Array(PADDED_MESSAGE_BYTES);
    message.set(data);
    new DataView(message.buffer).setUint32(PADDED_DATA_BYTES_MAX, data.length, true);
    yield message;
  }
}

/** The bytes that a message of the dialing side carries; undefined when it is malformed. */
export function dataOf(message: Uint8Array): Uint8Array | undefined {
  if (message.length !== PADDED_MESSAGE_BYTES) return message;
  const view = new DataView(message.buffer, message.byteOffset);
  const length = view.getUint32(PADDED_DATA_BYTES_MAX, true);
  return length <= PADDED_DATA_BYTES_MAX ? message.subarray(0, length) : undefined;
}

class WebSocketStream implements ByteStream {
  readonly peer: string;
  readonly binding = new Uint8Array();
  readonly #socket: WebSocket;
  readonly #dialed: boolean;
  /** What arrives before `start`. */
  #early: Uint8Array[] = [];
  #sink: ByteStreamSink | undefined;
  #error: Error | undefined;
  #closed = false;

  constructor(socket: WebSocket, peer: string, options: { dialed: boolean }) {
    this.peer = peer;
    this.#socket = socket;
    this.#dialed = options.dialed;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => this.#receive(data));
    socket.addEventListener("error", (event) => {
      const message = event instanceof ErrorEvent ? event.message : "";
      this.#error = new OperatingError("unavailable", `WebSocket to ${peer} failed: ${message}`);
    });
    socket.addEventListener("close", () => this.#finish());
  }

  get backlogBytes(): number {
    return this.#socket.bufferedAmount;
  }

  start(sink: ByteStreamSink): void {
    this.#sink = sink;
    for (const chunk of this.#early.splice(0)) sink.bytes(chunk);
    if (this.#closed) queueMicrotask(() => sink.closed(this.#error));
  }

  write(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#closed || this.#socket.readyState !== WebSocket.OPEN) return;
    for (const message of this.#dialed ? messagesOf(bytes) : [bytes]) this.#socket.send(message);
  }

  /** A closing handshake sends what was written first; without `flush` nobody waits for it. */
  close(options: { flush?: boolean } = {}): void {
    if (this.#closed) return;
    this.#socket.close();
    if (!options.flush) this.#finish();
  }

  #receive(data: unknown): void {
    if (this.#closed) return;
    const message = data instanceof ArrayBuffer ? new Uint8Array(data) : undefined;
    const chunk = this.#dialed || !message ? message : this.#receivePiece(message);
    if (chunk === undefined) {
      this.#error = new OperatingError("unavailable", `${this.peer} sent what is no stream`);
      this.close();
    } else if (this.#sink === undefined) this.#early.push(chunk);
    else this.#sink.bytes(chunk);
  }

  #receivePiece(message: Uint8Array): Uint8Array | undefined {
    const open = this.#socket.readyState === WebSocket.OPEN;
    if (open && message.length === SMALL_MESSAGE_BYTES) this.#socket.send(new Uint8Array());
    return dataOf(message);
  }

  #finish(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sink?.closed(this.#error);
  }
}

/** Connects. Rejects with OperatingError, also when it takes longer than a handshake may. */
export function dialWebSocket(url: URL): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  const socket = new WebSocket(url, [SUBPROTOCOL]);
  const fail = (reason: string) => {
    reject(new OperatingError("unavailable", `Cannot connect to ${url.href}: ${reason}`));
  };
  const timer = setTimeout(() => {
    fail("no answer in time");
    socket.close();
  }, limits.clusterHandshakeMs);
  socket.onerror = (event) => fail(event instanceof ErrorEvent ? event.message : "failed");
  socket.onclose = ({ reason }) => {
    clearTimeout(timer);
    fail(reason || "the server ended it");
  };
  const stream = new WebSocketStream(socket, url.href, { dialed: true });
  socket.onopen = () => {
    clearTimeout(timer);
    resolve(stream);
  };
  return promise;
}

/**
 * Answers an upgrade request, e.g. inside an HTTP server of the owner. `undefined` when the request
 * is none for us. Requests of web pages are not: nodes send no Origin, and a page that a user
 * happens to visit must not reach a node on that user's loopback interface.
 */
export function upgradeWebSocket(
  request: Request,
  options: { peer: string; accept: (stream: ByteStream) => void },
): Response | undefined {
  const asked = request.headers.get("sec-websocket-protocol")?.split(/\s*,\s*/) ?? [];
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") return undefined;
  if (!asked.includes(SUBPROTOCOL) || request.headers.has("origin")) return undefined;
  const { socket, response } = Deno.upgradeWebSocket(request, { protocol: SUBPROTOCOL });
  const stream = new WebSocketStream(socket, options.peer, { dialed: false });
  socket.onopen = () => options.accept(stream);
  return response;
}

/** A server for WebSocket streams alone. `files` makes it wss:// (with no client certificates). */
export function listenWebSocket(
  target: { readonly host: string; readonly port: number },
  accept: (stream: ByteStream) => void,
  files?: { readonly certificate: string; readonly key: string },
): Promise<StreamListener> {
  const { promise, resolve } = Promise.withResolvers<StreamListener>();
  const abort = new AbortController();
  const scheme = files === undefined ? "ws" : "wss";
  const options = {
    hostname: target.host,
    port: target.port,
    signal: abort.signal,
    onListen: ({ port }: Deno.NetAddr) => {
      const host = target.host.includes(":") ? `[${target.host}]` : target.host;
      const close = () => (abort.abort(), Promise.resolve());
      resolve({ address: `${scheme}://${host}:${port}/`, close });
    },
  };
  const tls = files === undefined ? {} : { cert: files.certificate, key: files.key };
  try {
    Deno.serve({ ...options, ...tls }, (request, { remoteAddr }) => {
      const peer = `${remoteAddr.hostname}:${remoteAddr.port}`;
      return upgradeWebSocket(request, { peer, accept }) ?? new Response("no\n", { status: 426 });
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const message = `Cannot listen on ${scheme}://${target.host}:${target.port}: ${reason}`;
    throw new OperatingError("unavailable", message);
  }
  return promise;
}
