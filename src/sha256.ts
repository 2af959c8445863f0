/**
 * SHA-256 (FIPS 180-4) of bytes that arrive in parts, at once and everywhere: the runtime's digest
 * wants all bytes together and is missing where a page was not loaded securely. Slower than the
 * runtime's own, which serves better where whole files are at hand.
 */

const BLOCK_BYTES = 64;

export class Sha256 {
  readonly #state = Int32Array.from(initialState);
  readonly #schedule = new Int32Array(64);
  /** Bytes of a block that is not full yet. */
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #sizeBytes = 0;

  /** Adds bytes; returns itself. */
  update(bytes: Uint8Array): this {
    const held = this.#sizeBytes % BLOCK_BYTES;
    this.#sizeBytes += bytes.length;
    let at = 0;
    if (held > 0) {
      const part = bytes.subarray(0, BLOCK_BYTES - held);
      this.#block.set(part, held);
      if (held + part.length < BLOCK_BYTES) return this;
      this.#compress(this.#block, 0);
      at = part.length;
    }
    for (; at + BLOCK_BYTES <= bytes.length; at += BLOCK_BYTES) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    return this;
  }

  /** The digest of all bytes so far, 32 bytes; nothing can be added afterwards. */
  digest(): Uint8Array<ArrayBuffer> {
    const held = this.#sizeBytes % BLOCK_BYTES;
    const tail = new Uint8Array(held < BLOCK_BYTES - 8 ? BLOCK_BYTES : 2 * BLOCK_BYTES);
    tail.set(this.#block.subarray(0, held));
    tail[held] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(this.#sizeBytes / 2 ** 29));
    view.setUint32(tail.length - 4, this.#sizeBytes * 8 % 2 ** 32);
    for (let at = 0; at < tail.length; at += BLOCK_BYTES) this.#compress(tail, at);
    const out = new DataView(new ArrayBuffer(32));
    for (const [index, word] of this.#state.entries()) out.setInt32(4 * index, word);
    return new Uint8Array(out.buffer);
  }

  #compress(bytes: Uint8Array, at: number): void {
    const w = this.#schedule;
    for (let i = 0, k = at; i < 16; i++, k += 4) {
      w[i] = bytes[k]! << 24 | bytes[k + 1]! << 16 | bytes[k + 2]! << 8 | bytes[k + 3]!;
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!, y = w[i - 2]!;
      const s0 = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3;
      const s1 = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10;
      w[i] = w[i - 16]! + s0 + w[i - 7]! + s1 | 0;
    }
    const state = this.#state;
    let a = state[0]!, b = state[1]!, c = state[2]!, d = state[3]!;
    let e = state[4]!, f = state[5]!, g = state[6]!, h = state[7]!;
    for (let i = 0; i < 64; i++) {
      const s1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
      const t1 = h + s1 + (e & f ^ ~e & g) + roundConstants[i]! + w[i]! | 0;
      const s0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
      const t2 = s0 + (a & b ^ a & c ^ b & c) | 0;
      h = g, g = f, f = e, e = d + t1 | 0;
      d = c, c = b, b = a, a = t1 + t2 | 0;
    }
    for (const [index, word] of [a, b, c, d, e, f, g, h].entries()) {
      state[index] = state[index]! + word;
    }
  }
}

/** SHA-256 of bytes at hand, by the runtime where it can: 32 bytes. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  // Pages that were not loaded securely have no `crypto.subtle`.
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return new Sha256().update(bytes).digest();
  return new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

/** The first `count` primes. */
function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) {
    if (found.every((prime) => n % prime !== 0)) found.push(n);
  }
  return found;
}

/** The first 32 bits of the fraction of a root, exactly: `floor(root(n) * 2^32) mod 2^32`. */
function fractionOfRoot(n: number, degree: 2 | 3): number {
  const scaled = BigInt(n) << BigInt(32 * degree);
  let low = 0n;
  let high = 1n << 40n;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** BigInt(degree) <= scaled) low = middle;
    else high = middle;
  }
  return Number(BigInt.asIntN(32, low));
}

const initialState = primes(8).map((prime) => fractionOfRoot(prime, 2));
const roundConstants = Int32Array.from(primes(64), (prime) => fractionOfRoot(prime, 3));
