/**
 * How many bytes of request bodies may be in memory together: each is bounded by itself, but many
 * large ones at once would still exhaust a small machine. Counts only; reading is body.ts.
 */
import { OperatingError } from "@/errors.ts";

/** The bytes held by one request. */
export interface BodyShare {
  /** Holds at least `bytes`; throws OperatingError `overloaded` when all together are too many. */
  hold(bytes: number): void;
  /** Gives everything back. May be called twice. */
  release(): void;
}

export class BodyBudget {
  readonly #bytesMax: number;
  #heldBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  share(): BodyShare {
    let held = 0;
    return {
      hold: (bytes) => {
        const more = Math.max(0, bytes - held);
        if (this.#heldBytes + more > this.#bytesMax) {
          throw new OperatingError(
            "overloaded",
            `Cannot take the body now: ${this.#heldBytes + more} bytes of requests in flight ` +
              `exceed ${this.#bytesMax}`,
            { retryAfterSeconds: 1 },
          );
        }
        this.#heldBytes += more;
        held += more;
      },
      release: () => {
        this.#heldBytes -= held;
        held = 0;
      },
    };
  }
}
