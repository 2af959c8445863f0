/**
 * The port under a connection: a reliable, ordered stream of bytes in both directions. It knows no
 * frames. Implementations: `socket_stream.ts` (TCP, Unix, TLS), `websocket_stream.ts`,
 * `memory_stream.ts`.
 */

/** What a stream tells its owner. Calls come one after the other, none after `closed`. */
export interface ByteStreamSink {
  /** Bytes that arrived. They may be reused when this returns. */
  bytes(chunk: Uint8Array): void;
  /** The stream has ended, once; `error` is undefined when the peer or we ended it. */
  closed(error: Error | undefined): void;
}

export interface ByteStream {
  /** Address of the peer, for the log. */
  readonly peer: string;
  /**
   * Hash of the listener's certificate as this side sees it, mixed into a keyed handshake so that
   * nobody can sit between two encrypted streams. Empty when the stream is not encrypted.
   */
  readonly binding: Uint8Array;
  /** Written bytes that the operating system (or the peer) has not taken yet. */
  readonly backlogBytes: number;
  /** Begins to deliver; bytes that came before are kept. */
  start(sink: ByteStreamSink): void;
  /** Sends bytes, which belong to the stream from now on. No effect once closed. */
  write(bytes: Uint8Array<ArrayBuffer>): void;
  /** Ends the stream: at once, or when what was written is sent (bounded in time). */
  close(options?: { flush?: boolean }): void;
}

/** A place where streams arrive. */
export interface StreamListener {
  /** The address with the port that was really bound. */
  readonly address: string;
  /** Accepts no more; existing streams go on. */
  close(): Promise<void>;
}
