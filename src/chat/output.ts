/**
 * Token events of one choice -> text, chain of thought, stop strings and log-probabilities. Owns
 * what of a token becomes visible and when. Which tokens come is the engine's business.
 */
import type { FinishReason, TokenLogprob } from "@/engine/request.ts";
import { Detokenizer } from "@/tokenizer/detokenizer.ts";
import { StopStrings } from "@/tokenizer/stop_strings.ts";
import type { Tokenizer } from "@/tokenizer/tokenizer.ts";
import { ReasoningSplitter } from "./reasoning.ts";

/** One generated token as the engine reports it. */
export interface OutputToken {
  readonly id: number;
  readonly logprob: TokenLogprob | undefined;
  readonly top: readonly TokenLogprob[];
}

/** A visible token with its log-probability and the best candidates of its place. */
export interface TokenEntry {
  readonly id: number;
  readonly logprob: number;
  readonly top: readonly TokenLogprob[];
}

/** What one or more tokens added to the answer. */
export interface OutputDelta {
  readonly reasoning: string;
  readonly content: string;
  /** Generated ids, an end token included. */
  readonly tokenIds: readonly number[];
  /** Entries of the visible tokens: neither end tokens nor those of a stop string. */
  readonly logprobs: readonly TokenEntry[];
}

export interface OutputOptions {
  readonly tokenizer: Tokenizer;
  /** Texts that end the answer; the thought is not searched. */
  readonly stops: readonly string[];
  /** Whether a leading `<think>…</think>` is the thought instead of content. */
  readonly splitReasoning: boolean;
  /** Leaves special tokens out of the text. */
  readonly skipSpecialTokens: boolean;
  /** Ids that may end the answer; such a token is invisible when it does. */
  readonly endTokenIds: ReadonlySet<number>;
}

interface PendingEntry {
  readonly entry: TokenEntry;
  /** Content units that came before the token's own. */
  readonly start: number;
}

/** The growing output of one choice. */
export class ChoiceOutput {
  readonly #options: OutputOptions;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;
  readonly #splitter: ReasoningSplitter | undefined;
  #tokenCount = 0;
  #reasoningTokenCount = 0;
  #isThoughtOver = false;
  #heldEndToken: OutputToken | undefined;
  #matchedStop: string | undefined;
  /** Content units found in the tokens, and those released by the stop-string search. */
  #contentFound = 0;
  #contentReleased = 0;
  readonly #pendingEntries: PendingEntry[] = [];

  constructor(options: OutputOptions) {
    this.#options = options;
    const { tokenizer, skipSpecialTokens } = options;
    this.#detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens });
    this.#stops = new StopStrings(options.stops);
    this.#splitter = options.splitReasoning ? new ReasoningSplitter() : undefined;
  }

  /** Generated tokens so far, an end token included. */
  get tokenCount(): number {
    return this.#tokenCount;
  }

  /** Of these, tokens of the thought and its tags. */
  get reasoningTokenCount(): number {
    return this.#reasoningTokenCount;
  }

  /** Whether the answer is inside its thought. */
  get isThinking(): boolean {
    return this.#splitter?.state === "reasoning";
  }

  /** The stop string that ended the answer; tokens after it are not to be pushed. */
  get matchedStop(): string | undefined {
    return this.#matchedStop;
  }

  /** Takes the next token. An end token waits until it is known whether the answer ends there. */
  push(token: OutputToken): OutputDelta {
    const parts = [this.#releaseEndToken()];
    this.#tokenCount += 1;
    if (this.#options.endTokenIds.has(token.id)) this.#heldEndToken = token;
    else parts.push(this.#show(token));
    const delta = joinDeltas(parts);
    return { ...delta, tokenIds: [token.id] };
  }

  /** Everything held back, once the answer ended. */
  finish(reason: FinishReason): OutputDelta {
    if (this.#matchedStop !== undefined) return EMPTY_DELTA;
    const parts = reason === "length" ? [this.#releaseEndToken()] : [];
    const rest = this.#detokenizer.flush();
    parts.push(this.#split(rest), this.#flushSplitter());
    // A stop string may have been completed by the very last text.
    if (this.#matchedStop === undefined) {
      const content = this.#stops.flush();
      this.#contentReleased += content.length;
      parts.push({ ...EMPTY_DELTA, content });
    }
    return { ...joinDeltas(parts), tokenIds: [], logprobs: this.#releaseEntries() };
  }

  #releaseEndToken(): OutputDelta {
    const token = this.#heldEndToken;
    this.#heldEndToken = undefined;
    return token === undefined ? EMPTY_DELTA : this.#show(token);
  }

  #show(token: OutputToken): OutputDelta {
    const start = this.#contentFound;
    const delta = this.#split(this.#detokenizer.push(token.id));
    const { hasThought = false, state = "content" } = this.#splitter ?? {};
    if (hasThought && (state === "reasoning" || !this.#isThoughtOver)) {
      this.#reasoningTokenCount = this.#tokenCount;
      this.#isThoughtOver = state === "content";
    }
    if (token.logprob !== undefined) {
      const entry = { id: token.id, logprob: token.logprob.logprob, top: token.top };
      this.#pendingEntries.push({ entry, start });
    }
    return { ...delta, logprobs: this.#releaseEntries() };
  }

  #split(text: string): OutputDelta {
    if (text === "") return EMPTY_DELTA;
    if (this.#splitter === undefined) return this.#search({ reasoning: "", content: text });
    return this.#search(this.#splitter.push(text));
  }

  #flushSplitter(): OutputDelta {
    return this.#splitter === undefined ? EMPTY_DELTA : this.#search(this.#splitter.flush());
  }

  #search({ reasoning, content }: { reasoning: string; content: string }): OutputDelta {
    if (content === "") return { ...EMPTY_DELTA, reasoning };
    this.#contentFound += content.length;
    const { text, matched } = this.#stops.push(content);
    this.#contentReleased += text.length;
    this.#matchedStop = matched;
    return { ...EMPTY_DELTA, reasoning, content: text };
  }

  /** Entries whose text is out; after a stop string those of the cut text are dropped. */
  #releaseEntries(): TokenEntry[] {
    const isAllOut = this.#contentReleased === this.#contentFound;
    const pending = this.#pendingEntries;
    let count = 0;
    while (count < pending.length) {
      if (!isAllOut && pending[count]!.start >= this.#contentReleased) break;
      count += 1;
    }
    return pending.splice(0, count).map(({ entry }) => entry);
  }
}

const EMPTY_DELTA: OutputDelta = { reasoning: "", content: "", tokenIds: [], logprobs: [] };

function joinDeltas(parts: readonly OutputDelta[]): OutputDelta {
  return {
    reasoning: parts.map((part) => part.reasoning).join(""),
    content: parts.map((part) => part.content).join(""),
    tokenIds: parts.flatMap((part) => part.tokenIds),
    logprobs: parts.flatMap((part) => part.logprobs),
  };
}
