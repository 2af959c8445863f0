/**
 * Reaching other nodes and being reached: picks the stream that an address asks for, refuses what
 * is not protected, and runs the handshake. It keeps no connections; its owner does.
 */
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { ByteStream, StreamListener } from "./byte_stream.ts";
import { parseAddress, requireProtection } from "./cluster_address.ts";
import type { ClusterSecret, Side } from "./cluster_secret.ts";
import { type Connection, type ConnectionOptions, openConnection } from "./connection.ts";
import type { LoadReport } from "./control_frames.ts";
import type { NodeIdentity } from "./handshake.ts";
import type { MemoryNetwork } from "./memory_stream.ts";
import { HandshakeError, type HandshakeFailure } from "./protocol_error.ts";
import { dialSocket, listenSocket, type TlsFiles } from "./socket_stream.ts";
import { dialWebSocket, listenWebSocket, upgradeWebSocket } from "./websocket_stream.ts";

export interface Transport {
  /** Rejects with OperatingError when nobody answers, with HandshakeError when they do not fit. */
  dial(address: string): Promise<Connection>;
  /** Hands every connection whose handshake succeeded to `accept`. */
  listen(address: string, events: ListenEvents): Promise<StreamListener>;
}

export interface ListenEvents {
  accept(connection: Connection): void;
  /** A handshake failed: for the log and a counter. */
  refused?(error: HandshakeError, peerAddress: string): void;
}

export interface TransportOptions {
  readonly clock: Clock;
  /** Asked for each connection: hashes and states change while a node runs. */
  readonly identity: () => NodeIdentity;
  readonly secret?: ClusterSecret | undefined;
  readonly tls?: TlsFiles | undefined;
  /** Allows ports beyond loopback without secret and certificates. */
  readonly allowPlaintext?: boolean | undefined;
  readonly mixedClasses?: boolean | undefined;
  /** A last word on a peer that fits, e.g. "draining". */
  readonly admit?: ((peer: NodeIdentity) => HandshakeFailure | undefined) | undefined;
  /** This node's own figures, for heartbeat answers. */
  readonly load?: (() => LoadReport) | undefined;
  /** Needed for "memory:" addresses. */
  readonly memory?: MemoryNetwork | undefined;
  readonly frameBytesMax?: number | undefined;
  readonly windowBytes?: number | undefined;
  readonly heartbeatMs?: number | undefined;
  readonly silenceMs?: number | undefined;
  readonly handshakeMs?: number | undefined;
  readonly every?: ConnectionOptions["every"];
}

const NONCE_BYTES = 32;

export class ClusterTransport implements Transport {
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  async dial(address: string): Promise<Connection> {
    this.#requireProtection(address);
    const stream = await this.#openStream(address);
    return openConnection(stream, this.#connectionOptions("dialer"));
  }

  listen(address: string, events: ListenEvents): Promise<StreamListener> {
    this.#requireProtection(address);
    const accept = this.#acceptor(events);
    const parsed = parseAddress(address);
    switch (parsed.kind) {
      case "memory":
        return Promise.resolve(this.#memory(address).listen(address, accept));
      case "unix":
        return listenSocket({ path: parsed.path }, accept);
      case "tcp":
        return listenSocket({ host: parsed.host, port: parsed.port }, accept, this.#options.tls);
      case "websocket": {
        const { hostname, port, protocol } = parsed.url;
        const secure = protocol === "wss:";
        const target = { host: hostname.replace(/^\[|\]$/g, ""), port: portOf(port, secure) };
        return listenWebSocket(target, accept, secure ? this.#requireTls(address) : undefined);
      }
    }
  }

  /** For a node that already serves HTTP: answers an upgrade request of a WebSocket dialer. */
  upgrade(
    request: Request,
    peerAddress: string,
    events: ListenEvents,
  ): Response | undefined {
    return upgradeWebSocket(request, { peer: peerAddress, accept: this.#acceptor(events) });
  }

  #openStream(address: string): Promise<ByteStream> {
    const parsed = parseAddress(address);
    switch (parsed.kind) {
      case "memory":
        return Promise.resolve(this.#memory(address).dial(address));
      case "unix":
        return dialSocket({ path: parsed.path });
      case "tcp":
        return dialSocket({ host: parsed.host, port: parsed.port }, this.#options.tls);
      case "websocket":
        return dialWebSocket(parsed.url);
    }
  }

  /** Runs handshakes of a listener, a bounded number at a time, up to a number of connections. */
  #acceptor(events: ListenEvents): (stream: ByteStream) => void {
    const count = { handshakes: 0, connections: 0 };
    const options = (): ConnectionOptions => ({
      ...this.#connectionOptions("listener"),
      admit: (peer) => {
        if (count.connections >= limits.clusterConnectionsMax) return "busy";
        return this.#options.admit?.(peer);
      },
      ended: () => count.connections--,
    });
    return (stream) => {
      if (count.handshakes >= limits.clusterHandshakesMax) {
        stream.close();
        const error = new HandshakeError("busy", `Refused ${stream.peer}: too many handshakes`);
        events.refused?.(error, stream.peer);
        return;
      }
      count.handshakes++;
      openConnection(stream, options()).then(
        (connection) => {
          count.connections++;
          events.accept(connection);
        },
        (error: HandshakeError) => events.refused?.(error, stream.peer),
      ).finally(() => count.handshakes--);
    };
  }

  #connectionOptions(side: Side): ConnectionOptions {
    const { identity, frameBytesMax, windowBytes, ...rest } = this.#options;
    return {
      ...rest,
      side,
      identity: identity(),
      nonce: crypto.getRandomValues(new Uint8Array(NONCE_BYTES)),
      frameBytesMax: frameBytesMax ?? limits.clusterFrameBytesMax,
      windowBytes: windowBytes ?? limits.clusterWindowBytes,
    };
  }

  #requireProtection(address: string): void {
    const { secret, tls, allowPlaintext = false } = this.#options;
    // Certificates protect sockets only; WebSockets have their own scheme for it.
    const protectedByTls = tls !== undefined && parseAddress(address).kind === "tcp";
    const protection = { secret: secret !== undefined, tls: protectedByTls, allowPlaintext };
    requireProtection(address, protection);
  }

  #requireTls(address: string): TlsFiles {
    if (this.#options.tls) return this.#options.tls;
    const message = `Cannot listen on ${address} without certificate and key`;
    throw new OperatingError("invalid_request", message);
  }

  #memory(address: string): MemoryNetwork {
    if (this.#options.memory) return this.#options.memory;
    throw new OperatingError("invalid_request", `Cannot use ${address}: no network in memory`);
  }
}

function portOf(port: string, secure: boolean): number {
  if (port !== "") return Number(port);
  return secure ? 443 : 80;
}
