/**
 * Text of a growing answer: turns token ids to text as they come and holds back unfinished UTF-8.
 * Stop strings are `stop_strings.ts`.
 */
import type { DecodeOptions, Tokenizer } from "./tokenizer.ts";

/** The texts of all `push` calls and of `flush` together equal `tokenizer.decode` of all ids. */
export class Detokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecialTokens: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tokenizer: Tokenizer, { skipSpecialTokens = false }: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecialTokens = skipSpecialTokens;
  }

  /** Text that became certain with this token; never half a character. */
  push(id: number): string {
    if (this.#skipSpecialTokens && this.#tokenizer.isSpecial(id)) return "";
    return this.#decoder.decode(this.#tokenizer.tokenBytes(id), { stream: true });
  }

  /** The rest at the end of the answer: U+FFFD for an unfinished character. Starts anew after. */
  flush(): string {
    return this.#decoder.decode();
  }
}
