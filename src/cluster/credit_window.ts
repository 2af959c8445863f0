/**
 * Back-pressure by credit, in bytes of frames. The receiver grants a window; the sender spends it
 * and stops at its end; the receiver gives back what its owner has consumed, in quarters.
 */
import { assert } from "@/assert.ts";
import { ProtocolError } from "./protocol_error.ts";

/** The sender's view of the peer's window. */
export class SendWindow {
  readonly #sizeBytes: number;
  #left: number;

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#left = sizeBytes;
  }

  get leftBytes(): number {
    return this.#left;
  }

  /** Spends `bytes`, or says false and spends nothing. */
  take(bytes: number): boolean {
    assert(bytes <= this.#sizeBytes, `frame of ${bytes} bytes in a window of ${this.#sizeBytes}`);
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** The peer gives back credit. Throws ProtocolError when that is more than was spent. */
  giveBack(bytes: number): void {
    const outstanding = this.#sizeBytes - this.#left;
    if (bytes > outstanding) {
      throw new ProtocolError("window", `credit of ${bytes} for ${outstanding} bytes`);
    }
    this.#left += bytes;
  }
}

/** The receiver's own window. */
export class ReceiveWindow {
  readonly #sizeBytes: number;
  #heldBytes = 0;
  #owedBytes = 0;

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
  }

  /** Bytes that arrived and are not consumed yet. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A frame begins to arrive. Throws ProtocolError when the peer has no credit for it. */
  take(bytes: number): void {
    const left = this.#sizeBytes - this.#heldBytes - this.#owedBytes;
    if (bytes > left) throw new ProtocolError("window", `${bytes} bytes with credit for ${left}`);
    this.#heldBytes += bytes;
  }

  /** A frame was consumed. Returns the credit to be sent now, or 0 while it is too little. */
  release(bytes: number): number {
    this.#heldBytes -= bytes;
    this.#owedBytes += bytes;
    if (this.#owedBytes * 4 < this.#sizeBytes) return 0;
    return this.flush();
  }

  /** All credit that is owed. */
  flush(): number {
    const owed = this.#owedBytes;
    this.#owedBytes = 0;
    return owed;
  }
}
