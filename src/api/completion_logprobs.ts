/**
 * Log-probabilities of raw completions in OpenAI's old form: parallel lists of token texts, numbers,
 * candidates by text, and offsets into the choice's text.
 */
import type { PromptEntry } from "@/chat/completion.ts";
import type { TokenEntry } from "@/chat/output.ts";
import type { TokenLogprob } from "@/engine/request.ts";
import { Detokenizer } from "@/tokenizer/detokenizer.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { logprobNumber } from "./answers.ts";

export interface TextLogprobs {
  readonly tokens: readonly string[];
  /** null for the first token of an echoed prompt: nothing precedes it. */
  readonly token_logprobs: readonly (number | null)[];
  /** Candidates by text, the chosen token among them; null when none were asked for. */
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[] | null;
  /** Where each token's text begins, in characters (code points). */
  readonly text_offset: readonly number[];
}

/** Writes the lists of one choice piece by piece. */
export class TextLogprobsWriter {
  readonly #tokenizer: Tokenizer;
  readonly #topCount: number;
  /** Characters of the choice's text that the tokens so far completed. */
  #offset = 0;
  readonly #detokenizer: Detokenizer;

  constructor(
    tokenizer: Tokenizer,
    { topCount, skipSpecialTokens }: { topCount: number; skipSpecialTokens: boolean },
  ) {
    this.#tokenizer = tokenizer;
    this.#topCount = topCount;
    this.#detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens });
  }

  /** Lists for an echoed prompt. */
  writePrompt(
    { text, ids, entries }: {
      text: string;
      ids: readonly number[];
      entries: readonly (PromptEntry | null)[];
    },
  ): TextLogprobs {
    const chosen = ids.map((id, index) => {
      const entry = entries[index] ?? null;
      return { id, logprob: entry?.chosen.logprob ?? null, top: entry?.top ?? [] };
    });
    // An echoed prompt shows its special tokens.
    const lists = this.#lists(chosen, new Detokenizer(this.#tokenizer));
    this.#offset = characterCount(text);
    return lists;
  }

  /** Lists for generated tokens. */
  write(entries: readonly TokenEntry[]): TextLogprobs {
    return this.#lists(entries, this.#detokenizer);
  }

  #lists(
    entries: readonly {
      id: number;
      logprob: number | null;
      top: readonly TokenLogprob[];
    }[],
    detokenizer: Detokenizer,
  ): TextLogprobs {
    const offsets = entries.map(({ id }) => {
      const offset = this.#offset;
      this.#offset += characterCount(detokenizer.push(id));
      return offset;
    });
    return {
      tokens: entries.map(({ id }) => this.#tokenizer.tokenText(id)),
      token_logprobs: entries.map(({ logprob }) =>
        logprob === null ? null : logprobNumber(logprob)
      ),
      top_logprobs: this.#topCount === 0 ? null : entries.map((entry) => this.#candidates(entry)),
      text_offset: offsets,
    };
  }

  #candidates(
    { id, logprob, top }: { id: number; logprob: number | null; top: readonly TokenLogprob[] },
  ): Record<string, number> | null {
    if (logprob === null) return null;
    const candidates: Record<string, number> = {};
    for (const candidate of [...top, { id, logprob }]) {
      const token = this.#tokenizer.tokenText(candidate.id);
      // Half characters share a text; the likelier one is told.
      candidates[token] ??= logprobNumber(candidate.logprob);
    }
    return candidates;
  }
}

/** The lists of several pieces in order. */
export function joinLogprobs(pieces: readonly TextLogprobs[]): TextLogprobs {
  const hasTop = pieces.some((piece) => piece.top_logprobs !== null);
  return {
    tokens: pieces.flatMap((piece) => piece.tokens),
    token_logprobs: pieces.flatMap((piece) => piece.token_logprobs),
    top_logprobs: hasTop ? pieces.flatMap((piece) => piece.top_logprobs ?? []) : null,
    text_offset: pieces.flatMap((piece) => piece.text_offset),
  };
}

function characterCount(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
