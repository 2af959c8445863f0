/**
 * Streams over sockets: TCP, Unix and TLS with certificates on both sides. Small writes are never
 * held back (`setNoDelay`): with Nagle's algorithm a call of 4 KiB would wait 44 ms for an ACK.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { ByteStream, ByteStreamSink, StreamListener } from "./byte_stream.ts";

/** PEM texts. Both sides show a certificate, and check the other's against `authority`. */
export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

export type SocketTarget =
  | { readonly host: string; readonly port: number }
  | { readonly path: string };

class SocketStream implements ByteStream {
  readonly peer: string;
  readonly binding: Uint8Array;
  readonly #socket: net.Socket;
  #error: Error | undefined;

  constructor(socket: net.Socket, peer: string, binding: Uint8Array = new Uint8Array()) {
    this.#socket = socket;
    this.peer = peer;
    this.binding = binding;
    // Until `start` the socket is paused; an error is told when the owner is there.
    socket.on("error", (error: Error) => this.#error = error);
  }

  get backlogBytes(): number {
    return this.#socket.writableLength;
  }

  start(sink: ByteStreamSink): void {
    if (this.#socket.destroyed) {
      queueMicrotask(() => sink.closed(this.#error));
      return;
    }
    this.#socket.on("close", () => sink.closed(this.#error));
    this.#socket.on("data", (chunk: Uint8Array) => sink.bytes(chunk));
  }

  write(bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  close(options: { flush?: boolean } = {}): void {
    if (!options.flush) {
      this.#socket.destroy();
      return;
    }
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), limits.clusterHandshakeMs);
    this.#socket.on("close", () => clearTimeout(timer));
  }
}

function describe(target: SocketTarget): string {
  if ("path" in target) return `unix:${target.path}`;
  return net.isIPv6(target.host)
    ? `[${target.host}]:${target.port}`
    : `${target.host}:${target.port}`;
}

/** SHA-256 of a certificate's DER form. */
function certificateHash(der: Uint8Array): Uint8Array {
  return createHash("sha256").update(der).digest();
}

function certificateHashOfPem(pem: string): Uint8Array {
  const match = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END/.exec(pem);
  if (!match) throw new OperatingError("invalid_request", "Cannot read certificate: it is no PEM");
  return certificateHash(Buffer.from(match[1]!, "base64"));
}

/** Connects. Rejects with OperatingError, also when it takes longer than a handshake may. */
export function dialSocket(target: SocketTarget, files?: TlsFiles): Promise<ByteStream> {
  const address = describe(target);
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>();
  const socket = files === undefined ? net.connect(target) : tls.connect({
    ...target,
    cert: files.certificate,
    key: files.key,
    ca: files.authority,
    // A server name must not be an address; certificates may still name addresses.
    ...("host" in target && net.isIP(target.host) === 0 ? { servername: target.host } : {}),
  });
  const fail = (reason: string) => {
    socket.destroy();
    reject(new OperatingError("unavailable", `Cannot connect to ${address}: ${reason}`));
  };
  const onError = (error: Error) => fail(error.message);
  const timer = setTimeout(() => fail("no answer in time"), limits.clusterHandshakeMs);
  socket.on("error", onError);
  socket.once("close", () => clearTimeout(timer));
  socket.once(files === undefined ? "connect" : "secureConnect", () => {
    clearTimeout(timer);
    if (!("path" in target)) socket.setNoDelay(true);
    const binding = socket instanceof tls.TLSSocket
      ? certificateHash(socket.getPeerCertificate().raw)
      : undefined;
    const stream = new SocketStream(socket, address, binding);
    socket.off("error", onError);
    resolve(stream);
  });
  return promise;
}

/** Listens, with certificates required of every client when `files` are given. */
export function listenSocket(
  target: SocketTarget,
  accept: (stream: ByteStream) => void,
  files?: TlsFiles,
): Promise<StreamListener> {
  const binding = files && certificateHashOfPem(files.certificate);
  const take = (socket: net.Socket) => {
    if (!("path" in target)) socket.setNoDelay(true);
    const { remoteAddress, remotePort } = socket;
    const peer = remoteAddress === undefined
      ? `${describe(target)} (client)`
      : describe({ host: remoteAddress, port: remotePort ?? 0 });
    accept(new SocketStream(socket, peer, binding));
  };
  const server = files === undefined ? net.createServer(take) : tls.createServer({
    cert: files.certificate,
    key: files.key,
    ca: files.authority,
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: limits.clusterHandshakeMs,
  }, take);
  // The two server classes share this much.
  const listening: net.Server = server;
  listening.maxConnections = limits.clusterConnectionsMax + limits.clusterHandshakesMax;
  return new Promise((resolve, reject) => {
    listening.once("error", (error: Error) => {
      const message = `Cannot listen on ${describe(target)}: ${error.message}`;
      reject(new OperatingError("unavailable", message));
    });
    listening.listen(target, () => {
      const bound = listening.address();
      const address = typeof bound === "object" && bound !== null && "host" in target
        ? describe({ host: target.host, port: bound.port })
        : describe(target);
      resolve({ address, close: () => stopListening(listening) });
    });
  });
}

/** The port is free when this resolves; the server itself ends with its last socket. */
function stopListening(server: net.Server): Promise<void> {
  server.close();
  return Promise.resolve();
}
