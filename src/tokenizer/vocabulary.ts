/**
 * The tokens of a tokenizer: id <-> spelling <-> bytes, and which are added or special. Holes
 * between ids are allowed. Does not merge and does not read files.
 */
import { assert } from "@/assert.ts";
import type { AddedToken } from "./added_tokens.ts";
import { BYTE_SPELLINGS, bytesOfSpelling } from "./byte_level.ts";

const EMPTY = new Uint8Array(0);

/** Immutable table of tokens. The contents must be consistent: `tokenizer_files.ts` checks. */
export class Vocabulary {
  /** Highest used id + 1. */
  readonly size: number;
  /** Byte-level spelling -> id of the byte-pair vocabulary, without added tokens. */
  readonly base: ReadonlyMap<string, number>;
  readonly addedTokens: readonly AddedToken[];
  readonly #added: ReadonlyMap<number, AddedToken>;
  readonly #addedIds: ReadonlyMap<string, number>;
  /** Bytes of token `id` lie from `#offsets[id]` to `#offsets[id + 1]`. */
  readonly #offsets: Uint32Array;
  readonly #bytes: Uint8Array;

  constructor(base: ReadonlyMap<string, number>, addedTokens: readonly AddedToken[]) {
    this.base = base;
    this.addedTokens = [...addedTokens].sort((a, b) => a.id - b.id);
    this.#added = new Map(addedTokens.map((token) => [token.id, token]));
    this.#addedIds = new Map(addedTokens.map((token) => [token.content, token.id]));
    const spellings: (Uint8Array | undefined)[] = [];
    for (const [spelling, id] of base) spellings[id] = bytesOfSpelling(spelling);
    const encoder = new TextEncoder();
    for (const { id, content } of addedTokens) spellings[id] = encoder.encode(content);
    this.size = spellings.length;
    this.#offsets = new Uint32Array(this.size + 1);
    for (let id = 0; id < this.size; id++) {
      this.#offsets[id + 1] = this.#offsets[id]! + (spellings[id]?.length ?? 0);
    }
    this.#bytes = new Uint8Array(this.#offsets[this.size]!);
    spellings.forEach((bytes, id) => bytes && this.#bytes.set(bytes, this.#offsets[id]!));
  }

  /** Raw bytes of a token, a view that callers must not write; empty for ids without a token. */
  bytesOf(id: number): Uint8Array {
    if (!Number.isInteger(id) || id < 0 || id >= this.size) return EMPTY;
    return this.#bytes.subarray(this.#offsets[id]!, this.#offsets[id + 1]!);
  }

  /** Id of an added token's exact text, else of a byte-level spelling. */
  idOf(text: string): number | undefined {
    return this.#addedIds.get(text) ?? this.base.get(text);
  }

  addedToken(id: number): AddedToken | undefined {
    return this.#added.get(id);
  }

  /** Ids of the 256 single bytes, by byte. */
  byteIds(): Int32Array {
    return Int32Array.from(BYTE_SPELLINGS, (spelling, byte) => {
      const id = this.base.get(spelling);
      assert(id !== undefined, `vocabulary has an entry for byte ${byte}`);
      return id;
    });
  }
}
