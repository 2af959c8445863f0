/**
 * Streams inside one process: what a cluster of one uses, and what tests disturb. A write is handed
 * over whole; `carry` decides when, whether, and how often it arrives.
 */
import { OperatingError } from "@/errors.ts";
import type { ByteStream, ByteStreamSink, StreamListener } from "./byte_stream.ts";

/** Carries one write from one end to the other; by default in the next microtask. */
export type Carry = (
  bytes: Uint8Array<ArrayBuffer>,
  deliver: (bytes: Uint8Array) => void,
  link: { readonly from: "dialer" | "listener"; readonly address: string },
) => void;

const carryAtOnce: Carry = (bytes, deliver) => queueMicrotask(() => deliver(bytes));

export class MemoryNetwork {
  readonly #carry: Carry;
  readonly #listeners = new Map<string, (stream: ByteStream) => void>();

  constructor(options: { carry?: Carry } = {}) {
    this.#carry = options.carry ?? carryAtOnce;
  }

  listen(address: string, accept: (stream: ByteStream) => void): StreamListener {
    if (this.#listeners.has(address)) {
      throw new OperatingError("unavailable", `Cannot listen on ${address}: it is taken`);
    }
    this.#listeners.set(address, accept);
    const close = () => {
      this.#listeners.delete(address);
      return Promise.resolve();
    };
    return { address, close };
  }

  dial(address: string): ByteStream {
    const accept = this.#listeners.get(address);
    if (accept === undefined) {
      throw new OperatingError("unavailable", `Cannot connect to ${address}: nobody listens`);
    }
    const near: MemoryStream = new MemoryStream(address, (bytes) => {
      this.#carry(bytes, (arrived) => far.deliver(arrived), { from: "dialer", address });
    });
    const far: MemoryStream = new MemoryStream(`${address} (dialer)`, (bytes) => {
      this.#carry(bytes, (arrived) => near.deliver(arrived), { from: "listener", address });
    });
    near.onClose = () => far.close();
    far.onClose = () => near.close();
    accept(far);
    return near;
  }
}

class MemoryStream implements ByteStream {
  readonly peer: string;
  readonly binding = new Uint8Array();
  /** Handed over at once: nothing is ever waiting here. */
  readonly backlogBytes = 0;
  readonly #send: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly #early: Uint8Array[] = [];
  #sink: ByteStreamSink | undefined;
  #closed = false;
  onClose: () => void = () => {};

  constructor(peer: string, send: (bytes: Uint8Array<ArrayBuffer>) => void) {
    this.peer = peer;
    this.#send = send;
  }

  start(sink: ByteStreamSink): void {
    this.#sink = sink;
    for (const chunk of this.#early.splice(0)) sink.bytes(chunk);
    if (this.#closed) sink.closed(undefined);
  }

  write(bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#closed) this.#send(bytes);
  }

  deliver(bytes: Uint8Array): void {
    if (this.#closed) return;
    if (this.#sink === undefined) this.#early.push(bytes);
    else this.#sink.bytes(bytes);
  }

  close(options: { flush?: boolean } = {}): void {
    if (this.#closed) return;
    if (options.flush) {
      // Writes are carried in order, so an ordinary task later they have arrived.
      setTimeout(() => this.close(), 0);
      return;
    }
    this.#closed = true;
    this.#sink?.closed(undefined);
    queueMicrotask(this.onClose);
  }
}
