/**
 * Text <-> token ids as Qwen2 does it: added tokens, NFC, split into pieces, byte-level BPE. Owns
 * the order of these steps; each step has its own file. Knows no chat template and no streaming.
 */
import { assert } from "@/assert.ts";
import { limits } from "@/limits.ts";
import {
  type AddedToken,
  AddedTokenSearch,
  familyAddedTokens,
  type TokenFilter,
} from "./added_tokens.ts";
import { Bpe } from "./bpe.ts";
import { learnBpe } from "./bpe_training.ts";
import { BYTE_SPELLINGS } from "./byte_level.ts";
import { normalizeNfc } from "./normalization.ts";
import { PieceCache } from "./piece_cache.ts";
import { PreTokenizer } from "./pre_tokenizer.ts";
import {
  parseFiles,
  readDefinition,
  TOKENIZER_FILES,
  type TokenizerDefinition,
  type TokenizerParts,
} from "./tokenizer_files.ts";
import { writeFiles } from "./tokenizer_writer.ts";
import { Vocabulary } from "./vocabulary.ts";

export type { AddedToken } from "./added_tokens.ts";
export type { TokenizerParts } from "./tokenizer_files.ts";

export interface EncodeOptions {
  /**
   * Which added tokens may match in the text: all (default), none (text of a user), or those with
   * the given ids. What may not match is ordinary text.
   */
  specialTokens?: "all" | "none" | ReadonlySet<number>;
}

export interface DecodeOptions {
  /** Leaves out added tokens with `special: true`. */
  skipSpecialTokens?: boolean;
}

export interface TrainOptions {
  /** Bytes, merges and added tokens together: the `size` of the result. */
  vocabularySize: number;
  /** Their ids must be the last of the vocabulary, as `familyAddedTokens(size - 35)` gives them. */
  addedTokens: readonly AddedToken[];
  /** A pair seen less often than this does not merge. Default 2. */
  pairCountMin?: number;
}

/** A byte-level BPE tokenizer in Qwen2 layout. Immutable but for a bounded cache of pieces. */
export class Tokenizer {
  readonly #vocabulary: Vocabulary;
  readonly #definition: TokenizerDefinition;
  readonly #bpe: Bpe;
  readonly #rawSearch: AddedTokenSearch;
  readonly #normalizedSearch: AddedTokenSearch;
  readonly #preTokenizer = new PreTokenizer();
  readonly #cache = new PieceCache();
  readonly #encoder = new TextEncoder();

  private constructor(definition: TokenizerDefinition) {
    const { vocabulary, merges, addedTokens } = definition;
    this.#definition = definition;
    this.#vocabulary = new Vocabulary(vocabulary, addedTokens);
    this.#bpe = new Bpe(this.#vocabulary.byteIds(), merges);
    this.#rawSearch = new AddedTokenSearch(addedTokens.filter((token) => !token.normalized));
    this.#normalizedSearch = new AddedTokenSearch(addedTokens.filter((token) => token.normalized));
  }

  /**
   * Reads the tokenizer files of a checkpoint: `tokenizer.json`, or else `vocab.json` and
   * `merges.txt`; plus `added_tokens.json`, `tokenizer_config.json` and `special_tokens_map.json`
   * where present; `readText` gives undefined for a file that is not there. Throws OperatingError
   * `checkpoint_invalid` naming the file and what is wrong.
   */
  static async load(readText: (name: string) => Promise<string | undefined>): Promise<Tokenizer> {
    const files: Record<string, string> = {};
    for (const name of Object.values(TOKENIZER_FILES)) {
      const isReplaced = name === TOKENIZER_FILES.vocabulary || name === TOKENIZER_FILES.merges;
      if (isReplaced && TOKENIZER_FILES.tokenizer in files) continue;
      const text = await readText(name);
      if (text !== undefined) files[name] = text;
    }
    return Tokenizer.fromFiles(files);
  }

  /** From the texts of the files by name, as `toFiles` gives them. Throws like `load`. */
  static fromFiles(files: Readonly<Record<string, string>>): Tokenizer {
    return Tokenizer.fromParts(parseFiles(files));
  }

  /** From the parsed contents of the files. Throws like `load`. */
  static fromParts(parts: TokenizerParts): Tokenizer {
    return new Tokenizer(readDefinition(parts));
  }

  /**
   * Learns a small vocabulary from a corpus; the same corpus gives the same tokenizer. Ids: bytes
   * 0…255, merges, added tokens. Ids that a small corpus leaves over become `<|unused_…|>` entries,
   * because other software numbers added tokens without holes.
   */
  static train(corpus: Iterable<string>, options: TrainOptions): Tokenizer {
    const { vocabularySize, addedTokens, pairCountMin = 2 } = options;
    const baseSize = baseSizeOf(vocabularySize, addedTokens);
    const bytesOnly = { addedTokens, normalization: "NFC" } as const;
    const splitter = new Tokenizer({ ...bytesOnly, vocabulary: byteVocabulary(), merges: [] });
    const pieceCounts = new Map<string, number>();
    for (const text of corpus) {
      splitter.#split(text, () => true, {
        onToken: () => {},
        onPiece: (piece) => pieceCounts.set(piece, (pieceCounts.get(piece) ?? 0) + 1),
      });
    }
    const learned = learnBpe(pieceCounts, { vocabularySize: baseSize, pairCountMin });
    const { spellings } = learned;
    while (spellings.length < baseSize) spellings.push(`<|unused_${spellings.length}|>`);
    return new Tokenizer({
      ...bytesOnly,
      vocabulary: new Map(spellings.map((spelling, id) => [spelling, id])),
      merges: learned.merges,
    });
  }

  /**
   * A tokenizer of any size without training, for benchmarks on real shapes: 256 bytes, fillers
   * that `encode` never gives but `decode` shows as short words, and added tokens at the end.
   */
  static byteLevel(
    vocabularySize: number,
    addedTokens: readonly AddedToken[] = familyAddedTokens(vocabularySize - 35),
  ): Tokenizer {
    const vocabulary = byteVocabulary();
    const baseSize = baseSizeOf(vocabularySize, addedTokens);
    for (let id = vocabulary.size; id < baseSize; id++) vocabulary.set(fillerSpelling(id), id);
    return new Tokenizer({ vocabulary, merges: [], addedTokens, normalization: "NFC" });
  }

  /** Contents of the files that `load` reads, by file name. */
  toFiles(): Record<string, string> {
    return writeFiles(this.#definition);
  }

  /** Highest used id + 1. Models may have more rows than this (padding). */
  get size(): number {
    return this.#vocabulary.size;
  }

  get addedTokens(): readonly AddedToken[] {
    return this.#vocabulary.addedTokens;
  }

  /**
   * Token ids of a text, in time linear in its length but for a logarithm. Adds no token before or
   * after. Lone surrogates become U+FFFD.
   */
  encode(text: string, { specialTokens = "all" }: EncodeOptions = {}): number[] {
    const ids: number[] = [];
    const isAllowed: TokenFilter | undefined = specialTokens === "none"
      ? undefined
      : specialTokens === "all"
      ? () => true
      : (id) => specialTokens.has(id);
    this.#split(text, isAllowed, {
      onToken: (id) => ids.push(id),
      onPiece: (piece) => this.#encodePiece(piece, ids),
    });
    return ids;
  }

  /**
   * Text of token ids. The bytes of all tokens are joined first; invalid UTF-8 becomes U+FFFD as
   * with `errors="replace"` in Python. Ids without a token give nothing.
   */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (const id of ids) {
      if (options.skipSpecialTokens && this.isSpecial(id)) continue;
      const bytes = this.tokenBytes(id);
      parts.push(bytes);
      length += bytes.length;
    }
    const joined = new Uint8Array(length);
    let offset = 0;
    for (const part of parts) {
      joined.set(part, offset);
      offset += part.length;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(joined);
  }

  /** Bytes of one token (of an added token: its text in UTF-8); a view, not to be written. */
  tokenBytes(id: number): Uint8Array {
    return this.#vocabulary.bytesOf(id);
  }

  /** Text of one token decoded alone, for log-probabilities; U+FFFD for half a character. */
  tokenText(id: number): string {
    return this.decode([id]);
  }

  /** Id of an added token's exact text or of a vocabulary entry in its byte-level spelling. */
  tokenId(text: string): number | undefined {
    return this.#vocabulary.idOf(text);
  }

  /** Whether the id is an added token with `special: true`. */
  isSpecial(id: number): boolean {
    return this.#vocabulary.addedToken(id)?.special ?? false;
  }

  isAdded(id: number): boolean {
    return this.#vocabulary.addedToken(id) !== undefined;
  }

  /** Reports the added tokens and the pieces between them, in order of the text. */
  #split(text: string, isAllowed: TokenFilter | undefined, sink: SplitSink): void {
    const wellFormed = text.toWellFormed();
    forEachSegment(
      wellFormed,
      { search: this.#rawSearch, isAllowed, onToken: sink.onToken },
      (raw) => {
        const normal = this.#definition.normalization === "NFC" ? normalizeNfc(raw) : raw;
        const search = this.#normalizedSearch;
        forEachSegment(normal, { search, isAllowed, onToken: sink.onToken }, (segment) => {
          for (let start = 0; start < segment.length;) {
            const end = this.#preTokenizer.pieceEnd(segment, start);
            sink.onPiece(segment.slice(start, end));
            start = end;
          }
        });
      },
    );
  }

  #encodePiece(piece: string, ids: number[]): void {
    const isCacheable = piece.length <= limits.tokenizerCachePieceCharsMax;
    const cached = isCacheable ? this.#cache.get(piece) : undefined;
    if (cached !== undefined) {
      for (const id of cached) ids.push(id);
      return;
    }
    const start = ids.length;
    this.#bpe.encode(this.#encoder.encode(piece), ids);
    if (isCacheable) this.#cache.set(piece, ids.slice(start));
  }
}

interface SplitSink {
  onToken: (id: number) => void;
  onPiece: (piece: string) => void;
}

interface SegmentSearch {
  search: AddedTokenSearch;
  isAllowed: TokenFilter | undefined;
  onToken: (id: number) => void;
}

/** Reports the added tokens of a text and the ordinary text between them, in order. */
function forEachSegment(
  text: string,
  { search, isAllowed, onToken }: SegmentSearch,
  onText: (segment: string) => void,
): void {
  let position = 0;
  while (position < text.length) {
    const match = isAllowed && search.find(text, position, isAllowed);
    const end = match?.start ?? text.length;
    if (end > position) onText(text.slice(position, end));
    if (match === undefined) return;
    onToken(match.id);
    position = match.end;
  }
}

function byteVocabulary(): Map<string, number> {
  return new Map(BYTE_SPELLINGS.map((spelling, byte) => [spelling, byte]));
}

/** Ids left for bytes and merges when the added tokens take the last ones. */
function baseSizeOf(vocabularySize: number, addedTokens: readonly AddedToken[]): number {
  const baseSize = vocabularySize - addedTokens.length;
  assert(baseSize >= 256, `a vocabulary of ${vocabularySize} holds 256 bytes and the added tokens`);
  assert(vocabularySize <= limits.vocabularySizeMax, `${vocabularySize} ids exceed the bound`);
  const ids = new Set(addedTokens.map((token) => token.id));
  for (let id = baseSize; id < vocabularySize; id++) {
    assert(ids.has(id), `added tokens take the ids from ${baseSize}, but ${id} is free`);
  }
  return baseSize;
}

/** A space and the id in letters: distinct, of the length of a usual token. */
function fillerSpelling(id: number): string {
  let letters = "";
  for (let rest = id; rest > 0; rest = Math.floor(rest / 26)) {
    letters = String.fromCharCode(0x61 + rest % 26) + letters;
  }
  return BYTE_SPELLINGS[0x20]! + letters;
}
