/** Bearer keys: compared in constant time, by digest, so that lengths do not show either. */
import { OperatingError } from "@/errors.ts";
import { Sha256 } from "@/sha256.ts";

/** Checks requests against a fixed set of keys; an empty set lets everything pass. */
export class KeyGuard {
  readonly #digests: readonly Uint8Array[];

  constructor(keys: readonly string[]) {
    this.#digests = keys.map(digest);
  }

  /** Throws OperatingError `unauthorized` unless the request carries one of the keys. */
  check(request: Request): void {
    if (this.#digests.length === 0) return;
    const header = request.headers.get("authorization");
    if (header === null) throw refuse("the Authorization header is missing");
    const [scheme = "", key = ""] = header.trim().split(/\s+/, 2);
    if (scheme.toLowerCase() !== "bearer") throw refuse("expected the form Bearer KEY");
    const given = digest(key);
    let isKnown = false;
    // Every key is compared, so that the time does not tell which one nearly fit.
    for (const known of this.#digests) isKnown = equalInConstantTime(known, given) || isKnown;
    if (!isKnown) throw refuse("the key is not known");
  }
}

function digest(key: string): Uint8Array {
  return new Sha256().update(new TextEncoder().encode(key)).digest();
}

/** Looks at every byte of two digests, wherever they differ first. */
function equalInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

function refuse(problem: string): OperatingError {
  return new OperatingError("unauthorized", `Cannot authorise request: ${problem}`);
}
