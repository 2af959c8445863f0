/**
 * The split of Qwen2 as a scanner: cuts normalised text into the pieces inside which BPE may merge.
 * Equals `QWEN2_PATTERN` in a leftmost-alternative regex engine with Unicode tables, but never
 * backtracks, so long runs of spaces or letters stay linear. Knows nothing of added tokens.
 */

/** The pattern as `tokenizer.json` spells it; other patterns are refused at load. */
export const QWEN2_PATTERN = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" +
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Character classes that the pattern tells apart. Newlines are whitespace too. */
export enum CharacterClass {
  Other,
  Letter,
  Number,
  Space,
  Newline,
}

const APOSTROPHE = 0x27;
const SPACE = 0x20;
const LETTER = /\p{L}/u;
const NUMBER = /\p{N}/u;
// Not JavaScript's \s: that includes U+FEFF and lacks U+0085, unlike the engines of the reference.
const WHITE_SPACE = /\p{White_Space}/u;

const BMP_CLASSES: Uint8Array = buildBmpClasses();

function buildBmpClasses(): Uint8Array {
  const classes = new Uint8Array(0x10000);
  for (let code = 0; code < 0x10000; code++) classes[code] = classifySlowly(code);
  return classes;
}

function classifySlowly(codePoint: number): CharacterClass {
  if (codePoint === 0x0a || codePoint === 0x0d) return CharacterClass.Newline;
  const character = String.fromCodePoint(codePoint);
  if (LETTER.test(character)) return CharacterClass.Letter;
  if (NUMBER.test(character)) return CharacterClass.Number;
  if (WHITE_SPACE.test(character)) return CharacterClass.Space;
  return CharacterClass.Other;
}

/** Class of a code point. */
export function characterClass(codePoint: number): CharacterClass {
  return codePoint < 0x10000 ? BMP_CLASSES[codePoint]! : classifySlowly(codePoint);
}

/** Reads text by class; `classify` is a parameter so that tests can count the work. */
export class PreTokenizer {
  readonly #classify: (codePoint: number) => CharacterClass;

  constructor(classify: (codePoint: number) => CharacterClass = characterClass) {
    this.#classify = classify;
  }

  /**
   * End (UTF-16 offset, exclusive) of the piece that begins at `start`. The order of the cases is
   * the order of the alternatives of the pattern. Requires `start < text.length`.
   */
  pieceEnd(text: string, start: number): number {
    const first = text.codePointAt(start)!;
    if (first === APOSTROPHE) {
      const length = contractionLength(text, start);
      if (length > 0) return start + length;
    }
    const firstClass = this.#classify(first);
    const firstEnd = start + widthOf(first);
    if (firstClass === CharacterClass.Letter) {
      return this.#runEnd(text, firstEnd, CharacterClass.Letter);
    }
    if (firstClass === CharacterClass.Number) return firstEnd;
    if (firstClass !== CharacterClass.Newline && firstEnd < text.length) {
      const second = this.#classify(text.codePointAt(firstEnd)!);
      if (second === CharacterClass.Letter) {
        return this.#runEnd(text, firstEnd, CharacterClass.Letter);
      }
      if (first === SPACE && second === CharacterClass.Other) {
        return this.#symbolsEnd(text, firstEnd);
      }
    }
    if (firstClass === CharacterClass.Other) return this.#symbolsEnd(text, firstEnd);
    return this.#whitespaceEnd(text, start);
  }

  /** Cuts `text` into all its pieces; their concatenation is `text`. */
  *pieces(text: string): Generator<string> {
    for (let start = 0; start < text.length;) {
      const end = this.pieceEnd(text, start);
      yield text.slice(start, end);
      start = end;
    }
  }

  #runEnd(text: string, start: number, wanted: CharacterClass): number {
    let end = start;
    while (end < text.length) {
      const codePoint = text.codePointAt(end)!;
      if (this.#classify(codePoint) !== wanted) break;
      end += widthOf(codePoint);
    }
    return end;
  }

  /** `[^\s\p{L}\p{N}]+[\r\n]*` */
  #symbolsEnd(text: string, start: number): number {
    const end = this.#runEnd(text, start, CharacterClass.Other);
    return this.#runEnd(text, end, CharacterClass.Newline);
  }

  /** `\s*[\r\n]+|\s+(?!\S)|\s+` */
  #whitespaceEnd(text: string, start: number): number {
    let end = start;
    let afterNewline = -1;
    // All white space is in the basic plane: one UTF-16 unit each.
    for (; end < text.length; end++) {
      const kind = this.#classify(text.codePointAt(end)!);
      if (kind === CharacterClass.Newline) afterNewline = end + 1;
      else if (kind !== CharacterClass.Space) break;
    }
    if (afterNewline > 0) return afterNewline;
    // The last space of a run belongs to the word that follows.
    return end < text.length && end - start > 1 ? end - 1 : end;
  }
}

function widthOf(codePoint: number): number {
  return codePoint > 0xffff ? 2 : 1;
}

/** Length of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at an apostrophe, 0 when there is none. */
function contractionLength(text: string, start: number): number {
  const first = foldCase(text[start + 1]);
  if (first === "s" || first === "t" || first === "m" || first === "d") return 2;
  const second = foldCase(text[start + 2]);
  const isLong = (first === "r" && second === "e") || (first === "v" && second === "e") ||
    (first === "l" && second === "l");
  return isLong ? 3 : 0;
}

/** Simple case folding for the letters of contractions; long s (U+017F) folds to s. */
function foldCase(character: string | undefined): string | undefined {
  return character === "\u017f" ? "s" : character?.toLowerCase();
}
