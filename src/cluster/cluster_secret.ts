/**
 * The cluster's shared secret: reading it, proving it without showing it, and deriving the keys of
 * one connection. HMAC-SHA256 with one label per purpose, over the transcript of the handshake.
 */
import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";

export type Side = "dialer" | "listener";

export class ClusterSecret {
  readonly #bytes: Uint8Array;

  /** Throws OperatingError when the secret is short enough to be guessed from a recording. */
  constructor(bytes: Uint8Array) {
    const least = limits.clusterSecretBytesMin;
    if (bytes.length < least) {
      const message = `Cannot use cluster secret: ${bytes.length} bytes are fewer than ${least}`;
      throw new OperatingError("invalid_request", message);
    }
    this.#bytes = bytes.slice();
  }

  /** From the text of a secret file; white space around it does not count. */
  static fromText(text: string): ClusterSecret {
    return new ClusterSecret(Buffer.from(text.trim(), "utf8"));
  }

  /** What only a holder of the secret can say about this transcript, on this side. */
  proof(side: Side, transcript: Uint8Array): Uint8Array {
    return this.#derive(`${side} proof`, transcript);
  }

  verifies(proof: Uint8Array, side: Side, transcript: Uint8Array): boolean {
    const expected = this.proof(side, transcript);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  }

  /** Key of the frames that `sender` sends on the connection with this transcript. */
  frameKey(sender: Side, transcript: Uint8Array): Uint8Array {
    return this.#derive(`${sender} frames`, transcript);
  }

  #derive(label: string, transcript: Uint8Array): Uint8Array {
    const text = `flotilla cluster 1: ${label}: `;
    return createHmac("sha256", this.#bytes).update(text).update(transcript).digest();
  }
}
